"""How far something that reads forward has come, and where an interrupted reading goes on."""

from mongoengine import (
    DateTimeField,
    Document,
    EmbeddedDocument,
    EmbeddedDocumentField,
    IntField,
    ListField,
    StringField,
)


class Window(EmbeddedDocument):
    """What one reading covers, both ends included, and the place where it is.

    The list is read newest first, in several lists if there are many types: `place` is the number of types that
    are read out, `after` the last event seen of the list that comes next.
    """

    meta = {"strict": False}

    since = DateTimeField(required=True)
    until = DateTimeField(required=True)
    types = ListField(StringField(), required=True)
    place = IntField(required=True, default=0)
    after = StringField()
    pages = IntField(required=True, default=0)
    listed = IntField(required=True, default=0)
    # By the database's clock, as the arrival of what is found.
    begun_at = DateTimeField(required=True)
    # By the clock of who is read: how old what it shows was then.
    read_at = DateTimeField(required=True)


class Watermark(Document):
    """Everything up to `at` was read, nothing before `started_at` is wanted; times of the clock of who is read.

    `version` guards each write; without `window` no reading is under way.
    """

    name = StringField(primary_key=True)
    at = DateTimeField(required=True)
    started_at = DateTimeField(required=True)
    window = EmbeddedDocumentField(Window)
    moved_at = DateTimeField(required=True)
    version = IntField(required=True, default=0)

    meta = {"collection": "watermarks", "auto_create_index": False, "strict": False}
