#!/bin/sh
# Gives the container engine the images of an unpacked bundle, and the volume `models` its models.
# Usage: sh load.sh BUNDLE     (in the folder of compose.yaml, when .env is filled in)
set -eu
bundle=$(CDPATH='' cd -- "$1" && pwd)
cd -- "$(dirname -- "$0")"
(cd -- "$bundle" && grep -E '  (images|models)/' SHA256SUMS | sha256sum --check --quiet)
docker load --input "$bundle/images/images.tar"
worker=$(docker compose config --services | grep '^worker-' | head -n 1)
for model in "$bundle"/models/*/; do
    if [ -d "$model" ]; then
        name=$(basename "$model")
        # Through the worker's image, which compares the files with the model's manifest and owns the volume.
        docker compose run --rm -T --no-deps --volume "$model:/from:ro" "${worker:?COMPOSE_PROFILES in .env names no worker}" \
            models pull "$name" --from /from --to "/models/$name" < /dev/null
    fi
done
