"""Conditions that hold now and that people are told of, so that they can be told of the end, too."""

from mongoengine import BooleanField, DateTimeField, DictField, Document, StringField


class OpenAlert(Document):
    """One condition about one subject, since it was first seen; the row goes when it holds no more.

    `told`: people know of it, so they have to be told of its end. There are as many as conditions, a few per job.
    """

    name = StringField(primary_key=True)
    condition = StringField(required=True)
    since = DateTimeField(required=True)
    seen_at = DateTimeField(required=True)
    told = BooleanField(required=True, default=False)
    facts = DictField()

    meta = {"collection": "open_alerts", "auto_create_index": False, "strict": False}
