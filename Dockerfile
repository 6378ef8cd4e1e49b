# syntax=docker/dockerfile:1
# llm-optimizer-processor: the stream processor on a small Debian. The entry point gives up root's rights before it starts it.
#
#   docker build --tag llm-optimizer-processor:latest .
#   docker run -v /var/lib/optimizer:/var/lib/optimizer llm-optimizer-processor:latest
#
# The configuration is /etc/optimizer/processor.yaml: mount your own over it, or set PROCESSOR_... variables. The pages listen
# on loopback inside the container unless PROCESSOR_METRICS__LISTEN says otherwise, as it does here.
#
# No USER: Docker gives a mounted folder to root, and the entry point must hand it over first. With --user 10001, or runAsUser in
# Kubernetes, nothing in the container is ever root.

# Both of one Debian, whose libraries the binary is linked to. A digest of one's own: --build-arg DEBIAN_IMAGE=debian@sha256:...
ARG RUST_IMAGE=rust:1.95.0-bookworm
ARG DEBIAN_IMAGE=debian:12.14-slim

FROM ${RUST_IMAGE} AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends libclang-dev libssl-dev pkg-config \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /source
# The image's own toolchain is the one that rust-toolchain.toml names; it need not fetch it, nor rustfmt and clippy.
ENV RUSTUP_TOOLCHAIN=1.95.0
# What .dockerignore lets through: the program's own sources, so that nothing else has it built again.
COPY . .
# The cache keeps RocksDB's objects between builds; the binary is copied out of it.
RUN --mount=type=cache,target=/cache/target,sharing=locked \
    --mount=type=cache,target=/usr/local/cargo/registry \
    CARGO_TARGET_DIR=/cache/target cargo build --release --locked --bin processor \
    && install -D -s -m 755 /cache/target/release/processor /out/processor

FROM ${DEBIAN_IMAGE}
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="llm-optimizer-processor" \
      org.opencontainers.image.description="A stream processor for LLM feedback events, on timely dataflow" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}"
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates libssl3 libstdc++6 zlib1g \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 optimizer \
    && useradd --uid 10001 --gid optimizer --home-dir /var/lib/optimizer --shell /usr/sbin/nologin optimizer \
    && install -d -o optimizer -g optimizer /var/lib/optimizer /var/lib/optimizer/state /var/lib/optimizer/checkpoints
COPY --from=build /out/processor /usr/local/bin/processor
COPY scripts/docker-entrypoint.sh /usr/local/bin/docker-entrypoint.sh
COPY config/processor.yaml /etc/optimizer/processor.yaml
ENV PROCESSOR_METRICS__LISTEN=0.0.0.0:8080
WORKDIR /var/lib/optimizer
VOLUME /var/lib/optimizer
EXPOSE 8080
# SIGTERM: stop reading, finish what is in flight, commit; under the ten seconds that `docker stop` waits.
STOPSIGNAL SIGTERM
# bash speaks TCP; the image needs no curl. 200 is alive, whatever the brokers do; 503 is a failed run.
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s --retries=3 CMD \
    ["/bin/bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/${PROCESSOR_METRICS__LISTEN##*:} && printf 'GET /health HTTP/1.0\\r\\n\\r\\n' >&3 && read -r -t 4 _ code _ <&3 && [ \"$code\" = 200 ]"]
ENTRYPOINT ["/usr/local/bin/docker-entrypoint.sh"]
CMD ["--config", "/etc/optimizer/processor.yaml"]
