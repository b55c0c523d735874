"""Ray's own autoscaler, as it runs on the head, told what is asked for; its machines come from EC2."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.autoscaler._private.providers import _get_node_provider
from ray.autoscaler.tags import (
    NODE_KIND_HEAD,
    STATUS_UP_TO_DATE,
    TAG_RAY_LAUNCH_CONFIG,
    TAG_RAY_NODE_KIND,
    TAG_RAY_NODE_NAME,
    TAG_RAY_NODE_STATUS,
    TAG_RAY_USER_NODE_TYPE,
)
from ray.autoscaler.v2 import autoscaler as autoscaler_module
from ray.autoscaler.v2.autoscaler import Autoscaler
from ray.autoscaler.v2.instance_manager.config import FileConfigReader
from ray.core.generated import autoscaler_pb2


class Head:
    """A head in EC2 whose autoscaler runs here. Machines that it launches are not set up."""

    def __init__(self, config: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Take a configuration that is filled in, as `ray up` hands to the head."""
        config = config | {"provider": config["provider"] | {"disable_node_updaters": True}}
        config.pop("head_node", None)
        self.provider = _get_node_provider(config["provider"], config["cluster_name"], use_cache=False)
        head_type = config["head_node_type"]
        tags = {
            TAG_RAY_NODE_KIND: NODE_KIND_HEAD,
            TAG_RAY_NODE_NAME: "head",
            TAG_RAY_NODE_STATUS: STATUS_UP_TO_DATE,
            TAG_RAY_LAUNCH_CONFIG: "any",
            TAG_RAY_USER_NODE_TYPE: head_type,
        }
        head_config = config["available_node_types"][head_type]["node_config"]
        (self.instance_id,) = self.provider.create_node(head_config, tags, 1)
        self.state = autoscaler_pb2.ClusterResourceState(cluster_session_name="session")
        self.state.node_states.add(
            node_id=b"head",
            instance_id=self.instance_id,
            ray_node_type_name=head_type,
            total_resources={"node:__internal_head__": 1},
            status=autoscaler_pb2.NodeStatus.RUNNING,
        )
        monkeypatch.setattr(autoscaler_module, "get_cluster_resource_state", lambda _: self.state)
        file = folder / "autoscaling.json"
        file.write_text(json.dumps(config))
        self.autoscaler = Autoscaler(
            session_name="session",
            config_reader=FileConfigReader(str(file)),
            gcs_client=SimpleNamespace(address="127.0.0.1:6379"),
        )

    def ask_for_gpus(self, count: int) -> None:
        """A training job asks for workers of one GPU each, all together, as Ray Train does."""
        self.state.pending_gang_resource_requests.clear()
        gang = self.state.pending_gang_resource_requests.add()
        for _ in range(count):
            gang.requests.add(resources_bundle={"CPU": 1, "GPU": 1})

    def rounds(self, count: int) -> None:
        """Let the autoscaler look and decide some times, as it does every five seconds."""
        for _ in range(count):
            self.state.cluster_resource_state_version += 1
            assert self.autoscaler.update_autoscaling_state() is not None, "it failed; see its log"
            time.sleep(0.1)  # it launches in threads

    def rounds_until(self, is_enough: Callable[[], bool]) -> None:
        """Let it look and decide until something has come about."""
        deadline_s = time.monotonic() + 60
        while not is_enough():
            assert time.monotonic() < deadline_s, "it never came about"
            self.rounds(1)
