# The notebooks, ready to use:
#
#     docker build -t ia2 .
#     docker run --rm -it -p 127.0.0.1:8888:8888 ia2
#
# and open the address that it prints. The build takes about as long as `cargo xtask quickstart` in a clone; the image has about 8 GB.
# `python3 xtask/python/container.py` runs these very steps without Docker, as root on a Debian.

# The release of Rust that everything is checked with: `CHECKED` in xtask/src/setup/machine.rs.
FROM rust:1.95.0-slim-bookworm AS tools
# What the image lacks: a C++ compiler, Python, fonts for figures, and git for whoever works in here.
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ git python3 python3-venv fonts-dejavu-core \
    && rm -rf /var/lib/apt/lists/*
RUN useradd --create-home --shell /bin/bash ia2
USER ia2
# The toolchain above, whatever rust-toolchain.toml calls it.
ENV RUSTUP_TOOLCHAIN=1.95.0
# rustfmt, clippy for contributors; rust-src for the kernel, which reads the types of variables with it.
RUN rustup component add rustfmt clippy rust-src

FROM tools AS notebooks
WORKDIR /home/ia2/ia2
COPY --chown=ia2:ia2 . .
RUN cargo xtask setup --lab
# The image works, or is not made.
RUN cargo xtask quickstart
EXPOSE 8888
CMD [".ia2/python/bin/python", "-m", "jupyterlab", "--ip=0.0.0.0", "--no-browser", "notebooks"]
