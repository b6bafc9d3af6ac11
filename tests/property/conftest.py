"""Worlds: empty stores, a fresh Stripe account, one organization."""

import pytest
from mongoengine.connection import get_db

from tests.property.world import World


@pytest.fixture
def make_world(wired, sandbox):
    """Makes a new world in the place of the one before."""
    runtime = wired.extensions["billing"]
    made = []

    def make():
        end(made)
        database = get_db()
        for name in database.list_collection_names():
            database[name].delete_many({})
        sandbox.reset()
        sandbox.hold()
        made.append(World(runtime, sandbox))
        return made[-1]

    with wired.app_context():
        yield make
        end(made)


def end(worlds):
    while worlds:
        worlds.pop().abandon()


@pytest.fixture
def world(make_world):
    return make_world()


@pytest.fixture
def known(world):
    """A world whose only subscription, on pro, has been seen a minute ago; the subscription's id."""
    subscription = world.there.subscribe("pro")
    world.tell_all()
    world.pass_by(60)
    world.asked()
    return subscription
