"""Every field of a run's configuration, with its unit and its default.

A config file of a data set takes these defaults, changes what the set needs, and is called with a
method: --config=configs/digits.py:cvae_gan. Any field can be set on the command line, e.g.
--config.steps=1000 or, for an ablation, --config.method.generator.match_c=0.
"""

from ml_collections import ConfigDict

from vaegan_jax import methods


def get_config(method):
  """The defaults for a method of methods.METHODS (a name), as a ConfigDict that still can grow."""
  if method not in methods.METHODS:
    raise ValueError(
      f'unknown method {method!r}: append one of {", ".join(methods.METHODS)} '
      'to the config file, as in --config=configs/digits.py:cvae_gan'
    )
  conditional = method in methods.CONDITIONAL
  return ConfigDict(
    dict(
      method_name=method,
      method=methods.METHODS[method],  # {network: {loss: weight}}; 0 takes a loss out
      seed=0,  # of parameters, noise, and order of the data
      steps=20_000,  # updates of every network
      batch_size=64,  # images per step, over all devices
      accumulate=1,  # parts that a batch is taken in, one after the other, where it does not fit in memory as a whole
      steps_per_dispatch=1,  # steps handed to the devices at once; a divisor of `steps` and of all *_every_steps
      parallel='mesh',  # mesh: jit over all devices; pmap: the same by jax.pmap
      dtype='float32',  # of the networks' arithmetic: float32 or bfloat16; all else is float32
      ema_decay=0.999,  # per step, of the weights that sampling uses
      first=dict(  # for a method that freezes networks: how they are trained before
        method_name=methods.FIRST.get(method, ''),
        method=methods.METHODS.get(methods.FIRST.get(method, ''), {}),
        steps=0,
      ),  # of `steps`, how many this takes
      data=dict(
        name='digits',  # see vaegan_jax/data.py
        path='',  # of a folder or zip of images, for name=folder
        label_table='',  # .csv or .json of its labels, where it is not named as usual
        data_dir='',  # where TFDS keeps its sets; empty: $TFDS_DATA_DIR or ~/tensorflow_datasets
        cache_dir='',  # of decoded images; empty: $XDG_CACHE_HOME/vaegan_jax/data
        download=False,  # let TFDS download the set
        split='train',
        held_out='',  # split to show reconstructions of; empty: the training images
        image_size=16,  # pixels: 16, 32, 64 or 128
        channels=1,  # 1 grey, 3 colour
        condition='label' if conditional else 'none',  # none, label, or attributes
        attributes=(),  # names of those in use; empty: all that the set has
        flip=False,  # mirror half of the images
        augment='none',  # none, or larsen: shifts, turns and colours as in that code, see augment.py
        on_device=False,
      ),  # keep all images in each device's memory, as uint8
      network=dict(
        name='bao' if conditional else 'larsen',  # bao or larsen
        latent_size=64,  # Z
        width=1.0,  # factor on the published numbers of channels and units
        encoder_units=2048,  # larsen: of the encoder's full layer; paper 2048, code 1024
        conditional_discriminator=False,
      ),  # let the discriminator see the condition
      normalise=dict(  # which images batch norm takes as one batch: joint (all groups), or apart
        makers='joint' if conditional else 'apart',  # reconstructions and prior samples
        critics='apart' if conditional else 'joint',
      ),  # real images, reconstructions, samples
      adversarial='bce',  # bce, hinge, least_squares, or wasserstein
      prior_condition='uniform',  # of prior samples: uniform classes, or shuffled from the batch
      match_d_decay=0.0,  # per step, of the feature mean of L_GD; 0: the batch's own mean
      match_c_decay=0.9,  # per step, of the class centres of L_GC
      optimizer=dict(
        name='adam' if conditional else 'rmsprop',  # adam, rmsprop, or sgd
        learning_rate=2e-4 if conditional else 3e-4,
        factor=dict(encoder=1.0, generator=1.0, discriminator=1.0, classifier=1.0),  # on the rate
        schedule='constant',  # constant, cosine, or larsen (its code's annealing)
        end=1e-6,  # learning rate at the end of cosine and larsen
        b1=0.5,
        b2=0.999,  # adam
        decay=0.9,  # rmsprop
        eps=1e-8,
        weight_decay=0.0,  # added to kernels' gradients as weight_decay * kernel
        clip_norm=0.0,
      ),  # largest gradient norm of a network; 0: any
      gate=dict(  # hold generator or discriminator when one is too far ahead (Larsen et al.'s code)
        on=False, equilibrium=0.68, margin=0.35
      ),  # nats
      log_every_steps=100,
      sample_every_steps=1000,
      save_every_steps=1000,
      keep_checkpoints=3,
    )
  )


def halved_first_phase(config):
  """`config`, locked; a method with a first phase gives it half of the steps."""
  if config.first.method_name:
    config.first.steps = config.steps // 2
  return config.lock()


# What the authors' code does with CelebA and the paper leaves out or says otherwise, by state of the code. Its
# gradients are sums over a batch of 64, ours means: rates and the penalty 2e-5 on weights are divided by 64.
_CODE = {
  'network.encoder_units': 1024,
  'data.augment': 'larsen',
  'optimizer.schedule': 'larsen',
  'optimizer.end': 1e-5 / 64,
  'optimizer.weight_decay': 2e-5 / 64,
}
AUTHORS_CODE = dict(
  vae_gan_arxiv_v2={**_CODE, 'steps': 37_500, 'optimizer.learning_rate': 0.02 / 64},
  vae_gan_released={**_CODE, 'steps': 62_500, 'optimizer.learning_rate': 0.025 / 64},
)


def faces(method):
  """What CelebA and LFW have in common: Larsen et al.'s faces at 64x64, with attributes."""
  config = get_config(method)
  config.steps = 37_500
  config.data.image_size, config.data.channels = 64, 3
  config.data.flip = True
  if config.data.condition == 'label':
    config.data.condition = 'attributes'
  config.prior_condition = 'shuffled'
  config.network.latent_size = 128
  config.gate.on = method.startswith('vae_gan')  # as in the authors' code
  if method in AUTHORS_CODE:
    config.update_from_flattened_dict(AUTHORS_CODE[method])
  return config


def small_grey(method):
  """What MNIST and Fashion-MNIST have in common: 28x28 with a border of zeros to 32x32."""
  config = get_config(method)
  config.data.held_out = 'test'
  config.data.image_size, config.data.channels = 32, 1
  config.network.latent_size, config.network.width = 64, 0.5
  config.network.encoder_units = 1024
  return config
