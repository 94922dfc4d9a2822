"""An S3-compatible server on this machine, and buckets on it."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager

import boto3
from moto.server import ThreadedMotoServer

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "AKIDFACELIGHTTESTS00", "AWS_SECRET_ACCESS_KEY": "secret"}


@contextmanager
def s3_server() -> Iterator[ThreadedMotoServer]:
    """Run a server on a free port; it forgets everything at its end."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def url_of(server: ThreadedMotoServer) -> str:
    """Where the server listens."""
    host, port = server.get_host_and_port()
    return f"http://{host}:{port}"


def environment(url: str) -> dict[str, str]:
    """What an operator sets for boto3 to use the server at `url`, and nothing else of this machine's settings."""
    return {
        **CREDENTIALS,
        "AWS_ENDPOINT_URL": url,
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def new_bucket() -> str:
    """Make a bucket where the environment says; returns its name."""
    name = f"facelight-{secrets.token_hex(6)}"
    boto3.client("s3").create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    return name


def keys(bucket: str) -> set[str]:
    """Keys of all objects of a bucket."""
    pages = boto3.client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket)
    return {entry["Key"] for page in pages for entry in page.get("Contents", ())}
