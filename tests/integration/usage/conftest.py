"""Organizations that use the service, at a time that a test sets."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from bson import ObjectId
from mongoengine.connection import get_db

from billing_service import extras, usage
from billing_service.documents import LedgerEntry, Organization, Subscription, UsageRecord, UsageWeek

QUOTA = {"free": 1_000, "starter": 50_000, "pro": 500_000, "business": 5_000_000}


class Clock:
    """The process's clock, where a test puts it."""

    def __init__(self):
        self.at = datetime(2026, 11, 25, 12, tzinfo=UTC)

    def __call__(self):
        return self.at


@pytest.fixture
def clock(app):
    """Moves the application's clock: `clock.at = ...`. METER_MODE is on."""
    billing, moved = app.extensions["billing"], Clock()
    app.extensions["billing"] = replace(billing, settings=replace(billing.settings, meter_mode=True), clock=moved)
    yield moved
    app.extensions["billing"] = billing


class User:
    """An organization with a row: what it uses, and what is stored of that."""

    def __init__(self, org_id, plans):
        self.org_id, self.plans = org_id, plans

    def use(self, key, units, now, **more):
        return usage.record(self.org_id, key, units, plans=self.plans, now=now, **({"metered": True} | more))

    def gets(self, units, ref, kind="topup", **more):
        at = datetime(2026, 11, 1, tzinfo=UTC)
        fields = {"organization": self.org_id, "kind": kind, "units": units, "ref": f"{ref}:{self.org_id}", "at": at}
        return extras.book(fields | more)

    @property
    def row(self):
        return Subscription.objects(organization=self.org_id).first()

    @property
    def balance(self):
        return extras.balance_of(self.org_id)

    @property
    def entries(self):
        return list(LedgerEntry.objects(organization=self.org_id).order_by("id"))

    @property
    def records(self):
        return list(UsageRecord.objects(organization=self.org_id).order_by("id"))

    def week(self, name):
        return UsageWeek.objects(organization=self.org_id, week=name).first()

    def another(self):
        """An organization that nobody has told of."""
        return User(ObjectId(), self.plans)

    def check(self):
        """Every unit is where it belongs, once."""
        assert self.balance == sum(each.units for each in self.entries)
        for week in UsageWeek.objects(organization=self.org_id):
            mine = [each for each in self.records if each.week == week.week]
            assert week.used - week.settled == sum(each.within for each in mine)
            assert week.overflow == sum(each.units - each.within for each in mine)
        settled = sum(each.units for each in self.entries if each.kind == "settlement")
        assert settled == sum(week.settled for week in UsageWeek.objects(organization=self.org_id))
        debits = sum(each.units for each in self.entries if each.ref.startswith("usage:"))
        assert -debits == sum(each.units - each.within for each in self.records)


@pytest.fixture
def user(app, organization):
    """Makes an organization with a row of a plan."""

    def make(plan="free", *, row=True, **fields):
        org_id = organization(plan=plan)
        if row:
            told = {"status": None if plan == "free" else "active", "plan": plan, "version": 1} | fields
            Subscription(id=ObjectId(), organization=org_id, **told).save(force_insert=True)
        return User(org_id, app.extensions["billing"].plans)

    return make


@pytest.fixture
def plan_of():
    return lambda org_id: Organization.objects(id=org_id).first().plan


@pytest.fixture
def refuses(app):
    """Makes MongoDB itself refuse what is written of an organization to a collection."""
    refused = []

    def refuse(document, field, value):
        name = document._get_collection_name()
        get_db().command("collMod", name, validator={field: {"$ne": value}})
        refused.append(name)

    yield refuse
    for name in refused:
        get_db().command("collMod", name, validator={})
