"""The role that each route of the admin application asks for. A test walks over all routes: none is without.

Rules of this file:
1. Who looks is a viewer, who acts on runs an operator; deployments, options, state and SQL are the admin's.
2. A route that shows what handlers were given or gave says so: not everybody who may look may see that.
"""

from __future__ import annotations

from typing import get_args

from agentdur.core.access import Role, Rule
from agentdur.core.ports import Operation

_ACTS = (*get_args(Operation), "restart-as-new")


def own_rules(sql: Role) -> tuple[Rule, ...]:
    """Those of the routes that are made here. `sql`: the least role that may ask in SQL."""
    public, view, act, admin = Role.PUBLIC, Role.VIEWER, Role.OPERATOR, Role.ADMIN
    return (
        Rule("GET", "/health", public), Rule("GET", "/", public),
        Rule("GET", "/whoami", public), Rule("POST", "/login", public), Rule("POST", "/logout", public),
        Rule("GET", "/version", view), Rule("GET", "/cluster-health", view),
        Rule("GET", "/openapi", view), Rule("GET", "/docs", view), Rule("GET", "/docs/oauth2-redirect", view),
        Rule("GET", "/services", view), Rule("GET", "/services/{service}", view),
        Rule("GET", "/services/{service}/handlers", view),
        Rule("GET", "/services/{service}/handlers/{handler}", view),
        Rule("GET", "/services/{service}/openapi", view),
        Rule("PATCH", "/services/{service}", admin),
        Rule("GET", "/services/{service}/state", view, "marked"),
        Rule("POST", "/services/{service}/state", admin, "whole"),
        Rule("POST", "/services/{service}/promises/{name}", act),
        Rule("POST", "/internal/services/{service}/serdes/encode/{name:path}", act),
        Rule("POST", "/internal/services/{service}/serdes/decode/{name:path}", view, "whole"),
        Rule("GET", "/invocations", view, "marked"), Rule("POST", "/invocations", act),
        Rule("GET", "/invocations/{id}", view, "marked"), Rule("DELETE", "/invocations/{id}", act),
        Rule("GET", "/invocations/{id}/entries/{index}", view, "marked"),
        Rule("GET", "/invocations/{id}/live", view, "marked"),
        Rule("GET", "/invocations/{id}/rows", view, "marked"),
        Rule("GET", "/invocations/{id}/attempts", view),
        Rule("GET", "/conversations/{head}", view, "whole"), Rule("GET", "/search", view, "whole"),
        *(Rule("PATCH", f"/invocations/{{id}}/{one}", act) for one in _ACTS),
        Rule("POST", "/invocations/{id}/fork", act),
        Rule("POST", "/invocations/{id}/signals/{signal}", act),
        Rule("POST", "/invocations/batch", act),
        Rule("POST", "/internal/invocations_batch_operations/{action}", act),
        Rule("POST", "/query", sql, "whole"),
        Rule("GET", "/overview", view), Rule("GET", "/budgets", view),
        Rule("GET", "/objects", view),
        Rule("GET", "/objects/{service}", view, "marked"),
        Rule("GET", "/deployments", view), Rule("GET", "/deployments/{deployment}", view),
        Rule("POST", "/deployments", admin), Rule("PATCH", "/deployments/{deployment}", admin),
        Rule("PUT", "/deployments/{deployment}", admin), Rule("DELETE", "/deployments/{deployment}", admin),
    )  # fmt: skip
