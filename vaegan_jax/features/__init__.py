"""Feature networks: a classifier trained on the data, EfficientNet-Lite0, and Inception.

Each network has a `.name`, which every result on its features must carry, and `.features(images)`,
float32 [N, F] of uint8 [N, H, W, C]. Import the module you need: `classifier`, `efficientnet` or
`inception`. `torch_file` reads the weights of the last two without torch.
"""
