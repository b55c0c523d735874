"""Spot machines where there are any, ordinary ones where there are none: the provider of ray_cluster.yaml.

Ray 2.60 on its own does not fall back. When EC2 has no spot machine its autoscaler asks for the same type
again, for ever: priorities of node types heed only machines that came and never joined, not those refused.
"""

import logging
from typing import Any

from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
from ray.autoscaler.node_launch_exception import NodeLaunchException

logger = logging.getLogger(__name__)

NO_SPOT_MACHINE = {
    "InsufficientInstanceCapacity",
    "MaxSpotInstanceCountExceeded",  # the account's quota of spot machines
    "SpotMaxPriceTooLow",
    "Unsupported",  # this type is not offered in the last zone that was tried
}
"""EC2's ways of saying that there is none now. Other refusals, such as a missing right, are raised."""


class SpotFirst(AWSNodeProvider):
    """Ray's AWS provider, but what cannot be had on spot is made at the ordinary price.

    Each launch tries spot first, in every subnet, so the cluster returns to spot as machines are replaced. A
    machine at the ordinary price keeps its node type; EC2 shows which it is (`InstanceLifecycle`).
    """

    def create_node(self, node_config: dict[str, Any], tags: dict[str, str], count: int) -> dict[str, Any]:
        """Launch `count` machines; by instance id, those made. Raises what EC2 refuses at any price."""
        if "InstanceMarketOptions" not in node_config:
            return dict(super().create_node(node_config, tags, count))
        made: dict[str, Any] = {}
        try:
            made = super().create_node(node_config, tags, count)
        except NodeLaunchException as error:
            if error.category not in NO_SPOT_MACHINE:
                raise
        if missing := count - len(made):
            logger.warning("%d of %d machines are not to be had on spot: on demand instead", missing, count)
            at_any_price = {key: node_config[key] for key in node_config if key != "InstanceMarketOptions"}
            made |= super().create_node(at_any_price, tags, missing)
        return made
