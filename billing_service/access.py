"""Who may do what: permissions `subject:action`, and the roles that are sets of them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

PERMISSIONS: dict[str, str] = {
    "customer:read": "see an organization, its subscription and what Stripe shows of it",
    "sync:create": "bring a row to Stripe's state",
    "link:create": "attach a Stripe subscription to an organization",
    "replay:create": "replay webhook events",
    "deadletter:read": "see the ledger of events and its dead letters",
    "deadletter:close": "close dead letters",
    "payload:read": "see the payload of events unmasked",
    "cancel:create": "cancel subscriptions",
    "refund:create": "refund charges",
    "plan:override": "override an organization's plan",
    "dispute:credit": "credit extras back after a won dispute",
    "reconcile:run": "start a reconciliation",
    "finding:acknowledge": "acknowledge findings",
    "audit:read": "see the audit log",
    "user:write": "create and disable admin users",
    "organizations:write": "tell of organizations",
    "usage:read": "ask what an organization may do",
    "usage:write": "record usage",
}

_SERVICE = frozenset({"organizations:write", "usage:read", "usage:write"})
_READS = frozenset({"customer:read", "deadletter:read", "audit:read"})

ROLES: dict[str, frozenset[str]] = {
    "admin": frozenset(PERMISSIONS),
    "billing-ops": frozenset(PERMISSIONS) - {"user:write"},
    "support": _READS | {"sync:create", "replay:create"},
    "auditor": _READS,
    "service": _SERVICE,
}


@dataclass(frozen=True)
class Identity:
    """Whoever a token stands for. `actor` is the token's subject."""

    actor: str
    roles: tuple[str, ...]

    @classmethod
    def from_claims(cls, claims: dict, roles_claim: str) -> "Identity":
        """Read the token's claims; what is not a list of known role names gives no rights."""
        named = claims.get(roles_claim)
        known = [role for role in named if isinstance(role, str) and role in ROLES] if isinstance(named, list) else []
        return cls(actor=str(claims.get("sub", "")), roles=tuple(known))

    @property
    def permissions(self) -> frozenset[str]:
        return permissions_of(self.roles)


def permissions_of(roles: Iterable[str]) -> frozenset[str]:
    """All permissions of the roles; unknown roles give none."""
    return frozenset().union(*(ROLES.get(role, frozenset()) for role in roles))


def refund_limit(roles: Iterable[str], limits: Mapping[str, int]) -> int | None:
    """The most that these roles may refund of a charge, in minor units; the most generous counts, None: no limit."""
    refunding = [role for role in roles if "refund:create" in ROLES.get(role, ())]
    if any(role not in limits for role in refunding):
        return None
    return max((limits[role] for role in refunding), default=0)
