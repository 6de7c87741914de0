# The image of every reviewpulse command. EXTRAS=gpu adds CUDA's libraries as wheels; the driver comes from the
# host, through NVIDIA's container toolkit.
#
# The base is pinned by its exact version. Where a registry can be reached, pin what that is now, too:
#   docker buildx imagetools inspect python:3.13.9-slim-bookworm    (prints the digest)
#   docker build --build-arg BASE=python:3.13.9-slim-bookworm@sha256:... .
ARG BASE=python:3.13.9-slim-bookworm

FROM ${BASE} AS build
ARG EXTRAS=""
WORKDIR /source
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY stream ./stream
COPY models ./models
COPY export ./export
COPY deploy/image_requirements.py ./deploy/
# Without CUDA's provider unless EXTRAS has gpu, and without pip, which nothing here runs: see docs/decisions/0020.
RUN python -m venv --without-pip /opt/reviewpulse \
    && python deploy/image_requirements.py pyproject.toml "$EXTRAS" > requirements.txt \
    && pip --python /opt/reviewpulse install --no-cache-dir -c constraints.txt -r requirements.txt \
    && pip --python /opt/reviewpulse install --no-cache-dir --no-deps .

FROM ${BASE}
COPY --from=build /opt/reviewpulse /opt/reviewpulse
# Two arenas: glibc gives back little of what each thread's own one held, see docs/soak.md.
ENV PATH=/opt/reviewpulse/bin:$PATH \
    HOME=/tmp \
    MALLOC_ARENA_MAX=2 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
# A number, so that Kubernetes' runAsNonRoot can tell.
USER 10001:10001
WORKDIR /tmp
ENTRYPOINT ["reviewpulse"]
CMD ["worker"]
# For `worker` alone: other commands are given one of their own, or `--no-healthcheck`. No shell is needed.
HEALTHCHECK --interval=30s --timeout=15s --start-period=90s CMD ["reviewpulse", "doctor", "--worker-here"]
