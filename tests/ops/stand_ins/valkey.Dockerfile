# In the place of Valkey's image: Debian's Redis under Valkey's names.
FROM debian:bookworm-slim
RUN apt-get update \
 && apt-get install --yes --no-install-recommends redis-server \
 && ln -s redis-server /usr/bin/valkey-server \
 && ln -s redis-cli /usr/bin/valkey-cli \
 && install -d -o 999 -g 999 /data
USER 999:999
WORKDIR /data
