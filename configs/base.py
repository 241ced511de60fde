"""Every field of a run's configuration, with its unit and default.

The config file of a data set starts from these defaults, changes what the set needs, and takes a
method as its argument: --config=configs/digits.py:cvae_gan. The command line can set any field,
e.g. --config.steps=1000 or, for an ablation, --config.method.generator.match_c=0.
"""

from typing import Any

from ml_collections import ConfigDict

from vaegan_jax import methods

# Of the relativistic methods, as in folder.py:vae_gan_relativistic,large: width, images per step.
SIZES = dict(
  small=(0.25, 8),  # for one or two CPU cores: many small steps gain more than large ones
  medium=(0.5, 16),  # for a small GPU
  large=(1.0, 64),  # for an accelerator
)


def get_config(argument: str) -> ConfigDict:
  """The defaults for METHOD or METHOD,SIZE, unlocked: a config file may add fields.

  Raises:
    ValueError: unknown method or size, or a method whose size the papers set.
  """
  method, _, size = argument.partition(',')
  if method not in methods.METHODS:
    raise ValueError(
      f'unknown method {method!r}: append one of {", ".join(methods.METHODS)} '
      'to the config file, as in --config=configs/digits.py:cvae_gan'
    )
  if size and (size not in SIZES or method not in methods.RELATIVISTIC):
    raise ValueError(
      f'{argument!r}: sizes are {", ".join(SIZES)}, of {" and ".join(methods.RELATIVISTIC)} alone; '
      'for other methods set --config.network.width and --config.batch_size'
    )
  conditional = method in methods.CONDITIONAL
  first = methods.FIRST.get(method, '')
  return ConfigDict(
    dict(
      method_name=method,
      method=methods.METHODS[method],  # {network: {loss: weight}}; 0 removes a loss
      seed=0,  # of parameters, noise, and order of the data
      steps=20_000,  # updates of every network
      batch_size=64,  # images per step, over all devices
      accumulate=1,  # parts of a batch, processed in turn, if it does not fit in memory as a whole
      # n: some work is done for every n-th image of a batch alone, so that a step costs less.
      every=dict(reconstruct=1, penalise=1),  # encoder and x_f; r1 and r2
      steps_per_dispatch=1,  # must divide `steps` and all *_every_steps
      parallel='mesh',  # mesh: jit over all devices; pmap: the same with jax.pmap
      dtype='float32',  # of the networks' arithmetic: float32 or bfloat16; all else is float32
      ema_decay=0.999,  # per step, of the weights that sampling uses
      first=dict(  # the first phase of a method with frozen networks: it trains those
        method_name=first,
        method=methods.METHODS.get(first, {}),
        steps=0,  # out of `steps`
      ),
      data=data_defaults(conditional),
      network=dict(
        name='bao' if conditional else 'larsen',  # bao, larsen, residual, or a module of your own
        latent_size=64,  # Z
        width=1.0,  # factor on the published numbers of channels and units
        encoder_units=2048,  # larsen: of the encoder's full layer; paper 2048, code 1024
        detail_channels=0,  # residual: of the generator's last map, times width; 0: none
        patch_logits=False,  # residual: whether the discriminator also judges parts of images
        learned_prior=False,  # residual: samples from where the encoder puts images, see prior.py
        conditional_discriminator=False,  # whether the discriminator sees the condition
      ),
      normalise=dict(  # batch norm over all groups of images (joint) or each by itself (apart)
        makers='joint' if conditional else 'apart',  # reconstructions and prior samples
        critics='apart' if conditional else 'joint',  # real images, reconstructions, samples
      ),
      adversarial='bce',  # bce, hinge, least_squares, wasserstein, or relativistic
      balance=dict(  # weights that follow from the losses, on top of `method`'s: see balance.py
        mode='off',  # off, shadow (logs what it would do), or on
        decay=0.99,  # per step, of the averages of losses and of gradients' norms
        reconstruction=1.0,  # norm at the images of the reconstructions' gradients, over that of
        matching=1.0,  # the adversarial losses'; and the same for the matching losses
      ),
      prior_condition='uniform',  # of prior samples: uniform classes; shuffled, same: the batch's
      match_d_decay=0.0,  # per step, of the feature mean of L_GD; 0: the batch's own mean
      match_c_decay=0.9,  # per step, of the class centres of L_GC
      lecam_decay=0.99,  # per step, of the mean logits that the loss lecam compares with
      critic_augment=dict(  # of what the discriminator sees; for few images: see critic_aids.py
        mode='off',  # off, fixed, or adaptive
        strength=0.0,  # probability of each transformation: fixed, or at the start
        target=0.6,  # adaptive: of sign_real; above it the strength grows, below it falls
        images=50_000,  # adaptive: real images over which the strength may move by 1
      ),
      optimizer=optimizer_defaults(conditional),
      # In nats: holds generator or discriminator if one is too far ahead, as Larsen et al.'s code.
      gate=dict(on=False, equilibrium=0.68, margin=0.35),
      # Signs of collapse. off; warn: told and kept in events.jsonl; heal: goes back, see watch.py.
      health=dict(action='warn', every_steps=100),
      log_every_steps=100,
      sample_every_steps=1000,
      sample_at_steps=(),  # pictures also after these
      sample_every_seconds=0.0,  # and when the last one is so old; 0: by steps alone
      save_every_steps=1000,
      keep_checkpoints=3,
      hang_seconds=600.0,  # without a step: shows where it waits; after twice that it ends
      wandb_project='',  # curves and pictures also to this project of W&B; needs the extra [wandb]
    )
  )


# What the relativistic methods train with, on every data set: no weight is set by hand.
RECOMMENDED = {
  'ema_decay': 0.999,  # its warm-up follows the length of the run
  'network.name': 'residual',
  'network.detail_channels': 32,
  'network.patch_logits': True,
  'network.learned_prior': True,
  'every.reconstruct': 2,  # these two make a step cheaper: samples gain by more steps
  'every.penalise': 4,
  'normalise.makers': 'apart',  # nothing is normalised over a batch: apart costs less
  'normalise.critics': 'apart',
  'adversarial': 'relativistic',
  'balance.mode': 'on',
  'balance.reconstruction': 0.5,
  'optimizer.name': 'adam',
  'optimizer.learning_rate': 1e-3,
  'optimizer.b1': 0.0,
  'optimizer.b2': 0.99,
  'optimizer.clip_norm': 10.0,
  'gate.on': False,
}


def recommended(size: str = 'small', conditional: bool = False) -> dict[str, Any]:
  """The RECOMMENDED settings in a size of SIZES, with or without a condition."""
  width, batch_size = SIZES[size]
  settings = {**RECOMMENDED, 'network.width': width, 'batch_size': batch_size}
  if conditional:  # the images of a relativistic pair share their condition
    settings.update({'network.conditional_discriminator': True, 'prior_condition': 'same'})
  return settings


def finished(config: ConfigDict, argument: str) -> ConfigDict:
  """`config`, locked; a relativistic method has the RECOMMENDED settings in the argument's size."""
  with config.unlocked():
    if config.method_name in methods.RELATIVISTIC:
      size = argument.partition(',')[2] or 'small'
      config.update_from_flattened_dict(recommended(size, config.data.condition != 'none'))
  return config.lock()


def data_defaults(conditional: bool) -> dict[str, Any]:
  """The fields config.data.*"""
  return dict(
    name='digits',  # see vaegan_jax/data
    path='',  # of a folder or zip of images, for name=folder
    label_table='',  # .csv or .json of its labels, if it has an unusual name
    data_dir='',  # of TFDS; empty: $TFDS_DATA_DIR or ~/tensorflow_datasets
    cache_dir='',  # of decoded images; empty: $XDG_CACHE_HOME/vaegan_jax/data
    download=False,  # whether TFDS may download the set
    split='train',
    held_out='',  # split to reconstruct in pictures; empty: the training images
    image_size=16,  # pixels: 16, 32, 64, 128, or (residual networks) 256
    channels=1,  # 1 grey, 3 colour
    condition='label' if conditional else 'none',  # none, label, or attributes
    attributes=(),  # names of those to use; empty: all of the set
    flip=False,  # mirror half of the images
    augment='none',  # none, or larsen: shifts, turns and colours of that code, see augment.py
    pipeline='auto',  # memory, tf.data, stream (data/feeds.py); auto: tf.data for TFDS sets
    on_device=False,  # keep all images in each device's memory, as uint8
  )


def optimizer_defaults(conditional: bool) -> dict[str, Any]:
  """The fields config.optimizer.*"""
  return dict(
    name='adam' if conditional else 'rmsprop',  # adam, rmsprop, or sgd
    learning_rate=2e-4 if conditional else 3e-4,
    factor=dict(encoder=1.0, generator=1.0, discriminator=1.0, classifier=1.0),  # on both rates
    schedule='constant',  # constant, step, cosine, or larsen (its code's annealing)
    end=1e-6,  # rate at the end of cosine and larsen, and of the last fifth of step; if it is lower
    b1=0.5,  # adam
    b2=0.999,  # adam
    decay=0.9,  # rmsprop
    eps=1e-8,
    weight_decay=0.0,  # added to kernels' gradients as weight_decay * kernel
    clip_norm=0.0,  # largest gradient norm of a network; 0: any
  )


def halved_first_phase(config: ConfigDict) -> ConfigDict:
  """`config`, locked; a first phase, if the method has one, gets half of the steps."""
  if config.first.method_name:
    config.first.steps = config.steps // 2
  return config.lock()


# What the authors' code does on CelebA and the paper omits or contradicts, per version of the code.
# Its gradients are sums over a batch of 64, ours are means: learning rates and the weight penalty
# of 2e-5 are divided by 64.
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


def faces(argument: str) -> ConfigDict:
  """The common part of CelebA and LFW: Larsen et al.'s faces at 64x64, with attributes."""
  config = get_config(argument)
  method = config.method_name
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


def small_grey(argument: str) -> ConfigDict:
  """The common part of MNIST and Fashion-MNIST: 28x28, padded with zeros to 32x32."""
  config = get_config(argument)
  config.data.held_out = 'test'
  config.data.image_size, config.data.channels = 32, 1
  config.network.latent_size, config.network.width = 64, 0.5
  config.network.encoder_units = 1024
  return config
