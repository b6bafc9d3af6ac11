"""The SaaS's organization: the collection may be shared with the SaaS, so only `plan` is ever set by us."""

from mongoengine import DateTimeField, DynamicDocument, StringField


class Organization(DynamicDocument):
    """An organization; `plan` is the effective plan that access control reads."""

    name = StringField()
    slug = StringField()
    plan = StringField()
    created_at = DateTimeField()

    meta = {
        "collection": "organizations",
        "auto_create_index": False,
        "indexes": [
            {"fields": ["slug"], "name": "slug", "sparse": True},
            {"fields": ["name"], "name": "name", "sparse": True},
        ],
    }
