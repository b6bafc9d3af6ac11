"""The calls that the service makes to Stripe, each answered with a small frozen value and its age."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from ..errors import StripeRejected
from . import shapes
from .answers import path_of, shaped
from .attempts import Answer, Call
from .connection import Connection
from .glances import GlancePage, glance_page
from .shapes import LiveCharge, LiveCheckoutSession, LiveCustomer, LiveDispute, LiveRefund, LiveSubscription, Read
from .translation import malformed

PAGE = 100
PAGES = 10

Value = TypeVar("Value")


class StripeGateway(Connection):
    """The one door to Stripe. Opens nothing until its first call; safe for threads and across forks.

    Timeouts are seconds, `requests_per_second` is of the whole installation, `redis` (a client or what gives
    one) holds the budget that all processes share. Every call may raise StripeNotConfigured,
    StripeMisconfigured, StripeRateLimited, StripeCircuitOpen and StripeUnavailable (its `effect_possible`
    says whether Stripe may have carried the call out all the same).
    """

    def account(self) -> Read[str]:
        """The id of the account that the key belongs to."""
        answer = self._get("account", "/v1/account")
        return self._value(answer, lambda raw: str(raw["id"]), "account")

    def customer(self, customer_id: str) -> Read[LiveCustomer]:
        """A customer, deleted ones too; raises StripeMissing."""
        answer = self._get("customer", path_of("customers", customer_id))
        return self._value(answer, shapes.customer, "customer")

    def subscription(self, subscription_id: str) -> Read[LiveSubscription]:
        """A subscription in any status; raises StripeMissing."""
        answer = self._get("subscription", path_of("subscriptions", subscription_id))
        return self._value(answer, shapes.subscription, "subscription")

    def subscriptions_of(self, customer_id: str) -> Read[tuple[LiveSubscription, ...]]:
        """All subscriptions of a customer, ended ones too, newest first; raises StripeMissing.

        `as_of` is the first page's. More than 1000 are refused (StripeRejected): which of them is the
        organization's could not be judged from a part.
        """
        params = {"customer": customer_id, "status": "all"}
        return self._all("subscriptions_of", "/v1/subscriptions", params, shapes.subscription, "subscription")

    def newest_subscriptions_of(self, customer_id: str) -> Read[tuple[LiveSubscription, ...]]:
        """The newest subscriptions, ended ones too, a hundred at most, in one request; raises StripeMissing."""
        answer = self._get(
            "newest_subscriptions_of", "/v1/subscriptions", {"customer": customer_id, "status": "all", "limit": PAGE}
        )
        return self._listed(answer, shapes.subscription, "subscription")

    def subscriptions_page(
        self,
        *,
        created: Mapping[str, int],
        starting_after: str | None = None,
        limit: int = PAGE,
        canceled: bool = False,
        with_customers: bool = False,
    ) -> Read[dict[str, Any]]:
        """One page `{"data": [subscription, …], "has_more": bool}` of the whole account as Stripe's JSON, newest first.

        All but canceled ones, unless those are wanted, too; `created` is bounds in Unix seconds (gte, lte). With
        customers each one's `customer` is the object, not its id. Raises StripeMissing if `starting_after` is gone.
        """
        params = {
            "created": dict(created),
            "starting_after": starting_after,
            "limit": limit,
            "status": "all" if canceled else None,
            "expand": ["data.customer"] if with_customers else None,
        }
        wanted = {name: value for name, value in params.items() if value}
        answer = self._get("subscriptions_page", "/v1/subscriptions", wanted)
        data = answer.body.get("data")
        if not isinstance(data, list) or not all(isinstance(each, dict) and each.get("id") for each in data):
            raise malformed("it is no list of subscriptions", writes=False, request_id=answer.request_id)
        # Each is read by who asks: one that cannot be read must not hide the others of its page.
        page = {"data": data, "has_more": bool(answer.body.get("has_more"))}
        return Read(page, answer.as_of, answer.request_id, answer.date)

    def subscriptions_at_a_glance(self, *, created: Mapping[str, int], starting_after: str | None) -> Read[GlancePage]:
        """The same page, without canceled ones, as who compares thousands needs it."""
        after = {"starting_after": starting_after} if starting_after else {}
        params = {"created": dict(created), "limit": PAGE} | after
        answer = self._get("subscriptions_page", "/v1/subscriptions", params, glance_page)
        return Read(answer.body, answer.as_of, answer.request_id, answer.date)

    def charges_of(self, customer_id: str, limit: int = 10) -> Read[tuple[LiveCharge, ...]]:
        """The customer's newest charges; raises StripeMissing."""
        answer = self._get("charges_of", "/v1/charges", {"customer": customer_id, "limit": limit})
        return self._listed(answer, shapes.charge, "charge")

    def charges_page(self, customer_id: str, *, limit: int, starting_after: str | None) -> Read[dict[str, Any]]:
        """One page `{"data": (LiveCharge, …), "has_more": bool}`, newest first, each with its newest ten refunds."""
        params: dict[str, Any] = {"customer": customer_id, "limit": limit, "expand": ["data.refunds"]}
        after = {"starting_after": starting_after} if starting_after else {}
        answer = self._get("charges_page", "/v1/charges", params | after)
        listed = self._listed(answer, shapes.charge, "charge")
        page = {"data": listed.value, "has_more": bool(answer.body.get("has_more"))}
        return Read(page, answer.as_of, answer.request_id, answer.date)

    def charges_of_payment(self, payment_intent_id: str) -> Read[tuple[LiveCharge, ...]]:
        """The attempts at a payment intent, newest first; at most one succeeded. May raise StripeMissing."""
        params = {"payment_intent": payment_intent_id, "limit": PAGE}
        return self._listed(self._get("charges_of_payment", "/v1/charges", params), shapes.charge, "charge")

    def charge(self, charge_id: str) -> Read[LiveCharge]:
        """A charge, failed ones too; raises StripeMissing."""
        return self._value(self._get("charge", path_of("charges", charge_id)), shapes.charge, "charge")

    def refunds_of(self, charge_id: str) -> Read[tuple[LiveRefund, ...]]:
        """All refunds of a charge, failed ones too, newest first; raises StripeMissing, more than 1000 are refused."""
        return self._all("refunds_of", "/v1/refunds", {"charge": charge_id}, shapes.refund, "refund")

    def refund(self, refund_id: str) -> Read[LiveRefund]:
        """A refund in any status; raises StripeMissing."""
        return self._value(self._get("refund", path_of("refunds", refund_id)), shapes.refund, "refund")

    def dispute(self, dispute_id: str) -> Read[LiveDispute]:
        """A dispute in any status; raises StripeMissing."""
        return self._value(self._get("dispute", path_of("disputes", dispute_id)), shapes.dispute, "dispute")

    def disputes_of(self, charge_id: str) -> Read[tuple[LiveDispute, ...]]:
        """All disputes of a charge, closed ones too, newest first; raises StripeMissing, more than 1000 are refused."""
        return self._all("disputes_of", "/v1/disputes", {"charge": charge_id}, shapes.dispute, "dispute")

    def checkout_session(self, session_id: str) -> Read[LiveCheckoutSession]:
        """A Checkout Session in any status; raises StripeMissing."""
        answer = self._get("checkout_session", path_of("checkout/sessions", session_id))
        return self._value(answer, shapes.checkout_session, "checkout.session")

    def checkout_sessions_of(self, payment_intent_id: str) -> Read[tuple[LiveCheckoutSession, ...]]:
        """The sessions that made a payment intent: one, or none when it was not made by Checkout."""
        params = {"payment_intent": payment_intent_id, "limit": PAGE}
        answer = self._get("checkout_sessions_of", "/v1/checkout/sessions", params)
        return self._listed(answer, shapes.checkout_session, "checkout.session")

    def customers_by_email(self, email: str, limit: int = 10) -> Read[tuple[LiveCustomer, ...]]:
        """Customers with exactly this e-mail address (case counts), newest first."""
        answer = self._get("customers_by_email", "/v1/customers", {"email": email, "limit": limit})
        return self._listed(answer, shapes.customer, "customer")

    def invoice(self, invoice_id: str) -> Read[dict[str, Any]]:
        """An invoice as Stripe's JSON; raises StripeMissing."""
        answer = self._get("invoice", path_of("invoices", invoice_id))
        return self._value(answer, dict, "invoice")

    def open_invoices_of(self, subscription_id: str) -> Read[tuple[datetime, ...]]:
        """When each open (finalized, unpaid) invoice of a subscription was created, newest first."""
        params = {"subscription": subscription_id, "status": "open", "limit": PAGE}
        answer = self._get("open_invoices_of", "/v1/invoices", params)
        return self._listed(answer, lambda raw: datetime.fromtimestamp(raw["created"], UTC), "invoice")

    def event(self, event_id: str) -> Read[dict[str, Any]]:
        """An event as Stripe's JSON, for 30 days after its creation; raises StripeMissing."""
        answer = self._get("event", path_of("events", event_id))
        return self._value(answer, dict, "event")

    def events(
        self,
        *,
        created_gte: int | None,
        created_lte: int | None = None,
        types: Sequence[str] | None = None,
        starting_after: str | None = None,
        limit: int = PAGE,
    ) -> Read[dict[str, Any]]:
        """One page `{"data": [event, …], "has_more": bool}`, newest first.

        Bounds are Unix seconds, inclusive. Stripe takes at most 20 `types`; `*` stands for the rest of a name.
        """
        created = {"gte": created_gte, "lte": created_lte}
        params = {
            "created": {name: bound for name, bound in created.items() if bound is not None},
            "types": list(types or ()),
            "starting_after": starting_after,
            "limit": limit,
        }
        answer = self._get("events", "/v1/events", {name: value for name, value in params.items() if value})
        listed = self._listed(answer, dict, "event")
        page = {"data": list(listed.value), "has_more": bool(answer.body.get("has_more"))}
        return Read(page, answer.as_of, answer.request_id, answer.date)

    def webhook_endpoints(self) -> Read[tuple[dict[str, Any], ...]]:
        """The account's webhook endpoints as Stripe's JSON, at most 100 (Stripe allows 16)."""
        answer = self._get("webhook_endpoints", "/v1/webhook_endpoints", {"limit": PAGE})
        return self._listed(answer, dict, "webhook_endpoint")

    def cancel_now(self, subscription_id: str, *, prorate: bool, invoice_now: bool) -> Read[LiveSubscription]:
        """Cancel at once. StripeMissing may mean that it is canceled already: only a retrieve tells."""
        params = {"prorate": prorate, "invoice_now": invoice_now}
        call = Call("cancel_now", "delete", path_of("subscriptions", subscription_id), params)
        return self._value(self._carry_out(call), shapes.subscription, "subscription", writes=True)

    def cancel_at_period_end(self, subscription_id: str, *, idempotency_key: str) -> Read[LiveSubscription]:
        """Let the subscription end with its period.

        The same key within 24 h gives Stripe's first answer again; its `as_of` is then 1970: look for what is.
        """
        params = {"cancel_at_period_end": True}
        path = path_of("subscriptions", subscription_id)
        call = Call("cancel_at_period_end", "post", path, params, idempotency_key)
        return self._value(self._carry_out(call), shapes.subscription, "subscription", writes=True)

    def create_refund(self, parameters: Mapping[str, Any], *, idempotency_key: str) -> Read[LiveRefund]:
        """Make a refund with exactly these parameters. Raises StripeRejected, StripeMissing, StripeIdempotencyConflict.

        The same key within 24 h gives Stripe's first answer again, a 500 too; the state of then, not of now.
        """
        call = Call("create_refund", "post", "/v1/refunds", parameters, idempotency_key)
        return self._value(self._carry_out(call), shapes.refund, "refund", writes=True)

    def _value(self, answer: Answer, read: Callable[[dict], Value], kind: str, *, writes: bool = False) -> Read[Value]:
        return Read(shaped(answer.body, read, kind, answer, writes), answer.as_of, answer.request_id, answer.date)

    def _all(
        self, operation: str, path: str, params: dict[str, Any], read: Callable[[dict], Value], kind: str
    ) -> Read[tuple[Value, ...]]:
        params = params | {"limit": PAGE}
        found: list[Value] = []
        first: Answer | None = None
        for _ in range(PAGES):
            answer = self._get(operation, path, params)
            first = first or answer
            page = self._listed(answer, read, kind).value
            found += page
            if not answer.body.get("has_more"):
                return Read(tuple(found), first.as_of, first.request_id, answer.date)
            if not page:
                raise malformed("an empty page says that more follow", writes=False, request_id=answer.request_id)
            params = params | {"starting_after": answer.body["data"][-1]["id"]}
        owner, owner_id = next(iter(params.items()))
        raise StripeRejected(f"The {owner} {owner_id} has more than {PAGE * PAGES} {kind}s.")

    def _listed(self, answer: Answer, read: Callable[[dict], Value], kind: str) -> Read[tuple[Value, ...]]:
        data = answer.body.get("data")
        if not isinstance(data, list):
            raise malformed(f"it is no list of {kind}s", writes=False, request_id=answer.request_id)
        values = tuple(shaped(each, read, kind, answer, False) for each in data)
        return Read(values, answer.as_of, answer.request_id, answer.date)
