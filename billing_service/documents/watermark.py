"""How far something that reads forward has come, and that it never goes back."""

from mongoengine import DateTimeField, DictField, Document, StringField


class Watermark(Document):
    """Everything up to `at` was read; `progress` is what an interrupted reading goes on from."""

    name = StringField(primary_key=True)
    at = DateTimeField(required=True)
    progress = DictField()
    moved_at = DateTimeField(required=True)

    meta = {"collection": "watermarks", "auto_create_index": False}
