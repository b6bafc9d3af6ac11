"""What can be turned at run time through the control plane, with its first values."""

from __future__ import annotations

DAY = 86400

SETTINGS = {
    "rate_limit": None,
    "rate_limit_reads": None,
    "rate_limit_writes": None,
    "draft_seconds": 3600,
    "dunning_retries": [3 * DAY, 5 * DAY, 7 * DAY],
    "dunning_final": "canceled",
    "payment_outcome": "succeed",
    "delivery_mode": "auto",
    "delivery_retries": [5, 300, 1800, 7200, 5 * 3600, 10 * 3600, 10 * 3600, 12 * 3600, 12 * 3600],
    "delivery_timeout": 10,
    "signature_clock": "real",
    "calendar_follows_time": True,
}

CHOICES = {
    "dunning_final": ("canceled", "unpaid", "past_due"),
    "payment_outcome": ("succeed", "decline", "none"),
    "delivery_mode": ("auto", "hold"),
    "signature_clock": ("real", "sandbox"),
}


class Settings:
    """The settings of one sandbox, kept in its store."""

    def __init__(self, store):
        self.store = store
        self.reload()

    def reload(self):
        self.values = {**SETTINGS, **(self.store.value("settings") or {})}

    def __getattr__(self, name):
        try:
            return self.__dict__["values"][name]
        except KeyError:
            raise AttributeError(name) from None

    def change(self, wanted: dict) -> dict:
        for name, value in wanted.items():
            if name not in SETTINGS:
                raise ValueError(f"unknown setting {name}")
            if name in CHOICES and value not in CHOICES[name]:
                raise ValueError(f"{name} must be one of {', '.join(CHOICES[name])}")
        with self.store.transaction():
            self.values = {**self.values, **wanted}
            self.store.keep("settings", self.values)
        return self.values
