# syntax=docker/dockerfile:1
# llm-optimizer-processor: the stream processor on a small Debian. The entry point gives up root's rights before it starts it.
#
#   docker build --tag llm-optimizer-processor:latest .
#   docker run -v /var/lib/optimizer:/var/lib/optimizer llm-optimizer-processor:latest
#
# The configuration is /etc/optimizer/processor.yaml: mount your own over it, or set PROCESSOR_... variables. The pages listen
# on loopback inside the container unless PROCESSOR_METRICS__LISTEN says otherwise, as it does here.

FROM rust:1.95.0-bookworm AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends libclang-dev libssl-dev pkg-config \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /source
# The image's own toolchain is the one that rust-toolchain.toml names; it need not fetch it, nor rustfmt and clippy.
ENV RUSTUP_TOOLCHAIN=1.95.0
COPY . .
# The cache keeps RocksDB's objects between builds; the binary is copied out of it.
RUN --mount=type=cache,target=/cache/target \
    --mount=type=cache,target=/usr/local/cargo/registry \
    CARGO_TARGET_DIR=/cache/target cargo build --release --locked --bin processor \
    && install -D -s -m 755 /cache/target/release/processor /out/processor

FROM debian:bookworm-slim
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
# SIGTERM: stop reading, finish what is in flight, commit; under ten seconds.
STOPSIGNAL SIGTERM
# bash speaks TCP; the image needs no curl. 200 is alive, whatever the brokers do; 503 is a failed run.
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s --retries=3 CMD \
    ["/bin/bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/${PROCESSOR_METRICS__LISTEN##*:} && printf 'GET /health HTTP/1.0\\r\\n\\r\\n' >&3 && read -r -t 4 _ code _ <&3 && [ \"$code\" = 200 ]"]
ENTRYPOINT ["/usr/local/bin/docker-entrypoint.sh"]
CMD ["--config", "/etc/optimizer/processor.yaml"]
