# The image of every reviewpulse command. EXTRAS=gpu adds CUDA's libraries as wheels; the driver comes from the
# host, through NVIDIA's container toolkit.
FROM python:3.13-slim-bookworm AS build
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

FROM python:3.13-slim-bookworm
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
