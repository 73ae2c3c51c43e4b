# xkd_jax on NVIDIA GPUs. The image needs no CUDA: JAX's wheels contain it, and the host has the driver.
#
#   docker build -t xkd_jax .
#   docker run --gpus=all --shm-size=8g -v "$PWD/runs:/xkd_jax/runs" xkd_jax
#   docker run --gpus=all --shm-size=8g -v VIDEOS:/videos -v RUNS:/runs xkd_jax \
#       python -m xkd_jax.main --config=configs/folder.py --config.data.path=/videos --workdir=/runs/mine
FROM python:3.11-slim
WORKDIR /xkd_jax
ENV XKD_ACCELERATOR=cuda13 XKD_VENV=/opt/xkd HOME=/tmp
# The environment comes first, so that it is rebuilt only when the lock has changed.
COPY launch/environment.sh launch/
COPY requirements-cuda.txt ./
RUN bash -c "source launch/environment.sh"
COPY . .
ENV PATH=/opt/xkd/bin:$PATH
CMD ["bash", "launch/demo.sh"]
