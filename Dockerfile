# docker build -t augcam . && docker run --rm -v "$PWD/outputs:/augcam/outputs" augcam
FROM python:3.12-slim
RUN pip install --no-cache-dir uv
WORKDIR /augcam
# What the dependencies need alone: a change of the code does not install them again.
COPY pyproject.toml README.md LICENSE ./
COPY src/augcam/__init__.py src/augcam/__init__.py
COPY conf conf
RUN uv sync --no-dev
COPY . .
CMD ["uv", "run", "--no-dev", "train.py", "experiment=quickstart"]
