"""Networks that give features of images: a classifier trained on the data, EfficientNet-Lite0, Inception.

Each gives a network with `.name`, which every result on its features must carry, and
`.features(images)`, float32 [N, F] of uint8 [N, H, W, C]. Import the one you need: `classifier`,
`efficientnet`, `inception`; `torch_file` reads the weights of the last two, without torch.
"""
