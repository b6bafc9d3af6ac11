"""What operators have told dispatch to leave alone for now."""

from mongoengine import DateTimeField, Document, StringField

EVERY_TYPE = "*"


class DispatchPause(Document):
    """Events of one type, or of all (`*`), are received and wait until the row is gone."""

    type = StringField(primary_key=True)
    since = DateTimeField(required=True)
    by = StringField(required=True)
    note = StringField()

    meta = {"collection": "dispatch_pauses", "auto_create_index": False, "strict": False}
