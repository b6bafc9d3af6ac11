"""The few facts of the whole installation, such as the Stripe account it belongs to."""

from mongoengine import DateTimeField, Document, StringField


class ServiceState(Document):
    """A named fact; the first process that learns it stores it, all others compare."""

    name = StringField(primary_key=True)
    value = StringField(required=True)
    at = DateTimeField(required=True)

    meta = {"collection": "service_state", "auto_create_index": False, "strict": False}
