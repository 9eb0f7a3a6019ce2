"""The strategies a model may name, one line each."""

from gateway.policy.affinity import PrefixAware
from gateway.policy.base import Selector
from gateway.policy.routing import Fastest, LeastBusy, Priority, Weighted

STRATEGIES: dict[str, Selector] = {
    "fastest": Fastest(),
    "least-busy": LeastBusy(),
    "prefix-aware": PrefixAware(),
    "priority": Priority(),
    "weighted": Weighted(),
}
