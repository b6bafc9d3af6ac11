"""The SaaS's organization: the collection may be shared with the SaaS, so only `plan` is ever set by us."""

from mongoengine import DateTimeField, DynamicDocument, StringField

# Small letters, capitals and accents are alike.
FOLDED = {"locale": "en", "strength": 1}


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
            # Searched by how they begin, whatever their case and accents.
            {"fields": ["slug"], "name": "slug_folded", "sparse": True, "collation": FOLDED},
            {"fields": ["name"], "name": "name_folded", "sparse": True, "collation": FOLDED},
        ],
    }
