"""Ports are free, distinct and kept where possible."""

import socket
from pathlib import Path

from producer.embedded.ports import LOOPBACK, are_free, choose_ports, free_ports


def test_free_ports_are_distinct() -> None:
    assert len(set(free_ports(50))) == 50


def test_a_port_that_is_listened_on_is_not_free() -> None:
    with socket.create_server((LOOPBACK, 0)) as server:
        assert not are_free([server.getsockname()[1]])


def test_ports_stay_the_same_while_they_are_free(tmp_path: Path) -> None:
    first = choose_ports(tmp_path / "ports.json", ["http", "grpc"])
    assert choose_ports(tmp_path / "ports.json", ["http", "grpc"]) == first


def test_ports_change_when_one_was_taken(tmp_path: Path) -> None:
    first = choose_ports(tmp_path / "ports.json", ["http", "grpc"])
    with socket.create_server((LOOPBACK, first["grpc"])):
        second = choose_ports(tmp_path / "ports.json", ["http", "grpc"])
    assert first["grpc"] not in second.values()


def test_unreadable_remembered_ports_are_replaced(tmp_path: Path) -> None:
    (tmp_path / "ports.json").write_text("{")
    assert set(choose_ports(tmp_path / "ports.json", ["http"])) == {"http"}
