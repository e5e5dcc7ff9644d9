# The connector's image: docker build -t source-amqp:dev .   (buildah build -t source-amqp:dev . does the same)
#
# SWIFT_IMAGE: any image with Swift 6.3 on the Debian release of RUNTIME_IMAGE, whose libraries the binary links.
ARG SWIFT_IMAGE=docker.io/library/swift:6.3-bookworm
ARG RUNTIME_IMAGE=docker.io/library/debian:bookworm-slim

FROM ${SWIFT_IMAGE} AS build
RUN apt-get update -q \
  && apt-get install -y -q --no-install-recommends \
    librabbitmq-dev libsqlite3-dev libssl-dev zlib1g-dev pkg-config \
  && rm -rf /var/lib/apt/lists/*
WORKDIR /source
# The dependencies change rarely: their download is a layer of its own.
# What `--version` tells: docker build --build-arg SOURCE_AMQP_COMMIT=$(git rev-parse HEAD) …
ARG SOURCE_AMQP_COMMIT=
ENV SOURCE_AMQP_COMMIT=${SOURCE_AMQP_COMMIT}
COPY Package.swift Package.resolve[d] ./
RUN swift package resolve
COPY Sources Sources
# Targets named in the manifest have to exist, even those that are not built.
COPY Tests Tests
RUN swift build -c release --static-swift-stdlib --product source-amqp \
  && install -D -s "$(swift build -c release --show-bin-path)/source-amqp" /connector/source-amqp

FROM ${RUNTIME_IMAGE}
# /journal is for a journal on a volume: one that is made from this directory belongs to nonroot.
RUN apt-get update -q \
  && apt-get install -y -q --no-install-recommends ca-certificates librabbitmq4 libsqlite3-0 libssl3 zlib1g \
  && rm -rf /var/lib/apt/lists/* \
  && useradd --create-home --uid 65532 --user-group nonroot \
  && install -d -o nonroot -g nonroot /journal
WORKDIR /connector
COPY --from=build /connector/source-amqp /connector/source-amqp
# With these, Flow takes the image for a capture that speaks JSON on stdin and stdout.
LABEL FLOW_RUNTIME_PROTOCOL=capture FLOW_RUNTIME_CODEC=json CONNECTOR_PROTOCOL=flow-capture
LABEL org.opencontainers.image.title="source-amqp" \
  org.opencontainers.image.description="Captures messages from RabbitMQ into Estuary Flow collections" \
  org.opencontainers.image.licenses="MIT OR Apache-2.0"
USER nonroot:nonroot
STOPSIGNAL SIGTERM
# No CMD: Flow runs the entry point alone, and drops arguments that stand in CMD.
ENTRYPOINT ["/connector/source-amqp"]
