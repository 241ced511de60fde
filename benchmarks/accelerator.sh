#!/bin/sh
# What a machine with a GPU or TPU can tell, in one command, from the project's root:
#
#   benchmarks/accelerator.sh speed_gpu.md        # on the accelerator
#   SMALL=1 benchmarks/accelerator.sh small.md    # the same in small, on the CPU: does it work?
#
# Writes tables for docs/speed.md: each command with what it printed. Needs neither a network nor
# TensorFlow. If a part fails, the others run all the same; the exit status is then 1, and the last
# line names it.
#
# PLATFORM: JAX's backend, cuda (the default) or tpu. PYTHON: the Python to use.
# TWIN_PYTHON, TWIN: an environment with PyTorch, and the folder of bench_torch_vaegan.py, to time
# the compiled PyTorch twin beside our step. Without them our step runs alone.
set -u

out=${1:?'name the page to write, as in: benchmarks/accelerator.sh speed_gpu.md'}
platform=${PLATFORM:-cuda}
python=${PYTHON:-.venv/bin/python}
if [ -e "$out" ]; then
  echo "$out exists: name a new page" >&2
  exit 2
fi
if [ ! -f benchmarks/accelerator.sh ]; then
  echo "run benchmarks/accelerator.sh from the project's root" >&2
  exit 2
fi

failed=
part() { # part TITLE COMMAND...: adds what the command prints to the page
  title=$1
  shift
  printf '## %s\n\n    %s\n\n' "$title" "$*" | tee -a "$out"
  "$@" > "$out.part" 2> "$out.errors"
  status=$?
  tee -a "$out" < "$out.part"
  if [ "$status" != 0 ]; then
    failed="${failed:+$failed, }$title"
    printf '**Failed, with exit status %s.**\n' "$status" | tee -a "$out"
    tail -n 20 "$out.errors" >&2
  fi
  printf '\n' | tee -a "$out"
  rm -f "$out.part" "$out.errors"
}
bench() { # bench TITLE NAME FLAGS...
  title=$1 name=$2
  shift 2
  part "$title" "$python" -m "benchmarks.$name" "$@"
}

if [ -n "${SMALL:-}" ]; then
  platform=cpu
  tests='tests/test_losses.py' only='penalties_are_finite'
  export JAX_DISABLE_MOST_OPTIMIZATIONS=1
  training='--methods=vae --steps=4 --width=0.0625 --batch_size=4 --band=1'
  step='--ours=apart --batch_size=2 --steps=1 --warmup=1 --repeats=1 --cores=1'
  loop='--method=vae --steps=200 --log_every_steps=10 --batch_size=4'
  population='--members=2 --batch_sizes=4 --iterations=2 --repeats=1'
  sampling='--largest=1000 --repeats=1'
else
  # The other tests are about files, commands, or eight devices.
  tests='tests/test_losses.py tests/test_networks.py tests/test_step.py tests/test_balance.py
    tests/test_critic_aids.py'
  only='not (devices or pmap or chunks)'
  training='--steps=300 --width=1'
  step='--steps=50 --warmup=5 --repeats=5'
  loop='--steps=10000 --width=1 --on_device --steps_per_dispatch=10'
  population='--members=16'
  sampling='--largest=1000000'
fi
export JAX_PLATFORMS="$platform"
twin=
[ -n "${TWIN_PYTHON:-}" ] && twin="--twin_python=$TWIN_PYTHON --twin=${TWIN:-} --modes=compile"

# shellcheck disable=SC2086  # the options below are lists of words
{
  # Float32 products on an accelerator may have few bits; the tests compare with all of them.
  part Tests env "TEST_PLATFORM=$platform" JAX_DEFAULT_MATMUL_PRECISION=highest \
    "$python" -m pytest -q -n 0 --durations=0 $tests -k "$only"
  bench 'bfloat16 beside float32' bfloat16 $training
  for dtype in float32 bfloat16; do
    bench "A step in $dtype" step "--device=$platform" "--dtype=$dtype" $step $twin
    [ -n "${SMALL:-}" ] && break
  done
  bench 'The training loop' loop $loop
  bench 'A population' population $population
  bench Sampling sampling $sampling
}
if [ -n "$failed" ]; then
  echo "Failed: $failed" | tee -a "$out"
  exit 1
fi
echo "All parts ran; $out has the tables."
