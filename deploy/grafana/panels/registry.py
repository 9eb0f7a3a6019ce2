"""What the dashboard shows, from top to bottom: a file for each thing that operators look at, and a name here.

tests/deploy holds every query against a real gateway and a real Prometheus.
"""

from deploy.grafana.panels.base import Section
from deploy.grafana.panels.engine import ENGINE
from deploy.grafana.panels.errors import ERRORS
from deploy.grafana.panels.glance import GLANCE
from deploy.grafana.panels.latency import LATENCY
from deploy.grafana.panels.limits import LIMITS
from deploy.grafana.panels.targets import TARGETS
from deploy.grafana.panels.tokens import TOKENS
from deploy.grafana.panels.traffic import TRAFFIC

SECTIONS: tuple[Section, ...] = (GLANCE, TRAFFIC, ERRORS, LATENCY, TOKENS, LIMITS, TARGETS, ENGINE)
