"""Scrapes a process, and reads the answer with the parser of `prometheus_client`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import httpx
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from tests.faults.processes.members import Member


@dataclass(frozen=True)
class Scrape:
    """What one process told."""

    text: str

    @property
    def samples(self) -> list[Sample]:
        """All of it, in order."""
        return [sample for family in text_string_to_metric_families(self.text) for sample in family.samples]

    def of(self, name: str, **labels: str) -> list[Sample]:
        """The samples of that name whose labels have these values."""
        return [each for each in self.samples if each.name == name and labels.items() <= each.labels.items()]

    def sum(self, name: str, **labels: str) -> float:
        """The sum of their values; fails if there is none."""
        found = self.of(name, **labels)
        assert found, f"no {name} with {labels}"
        return sum(sample.value for sample in found)

    def labels(self) -> Iterator[tuple[str, str, str]]:
        """Sample, label and value of every label."""
        for sample in self.samples:
            for label, value in sample.labels.items():
                yield sample.name, label, value


def scrape(port: int | str) -> Scrape:
    """Ask the process that tells its metrics on a port."""
    answer = httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False, timeout=10)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return Scrape(answer.text)


def port_of(member: Member) -> str:
    """Where a process of a cluster tells its metrics."""
    return member.environment["FACELIGHT_METRICS_PORT"]
