"""The token bucket of the Stripe budget, once in Lua for all processes and once in Python for one.

Three pools fill continuously: `reserved` (a fifth of the rate, only for the background), `shared` (the rest,
and what `reserved` cannot hold) and `ceiling` (half of the rate: how much the background may take at all).
The background takes from `shared` only what is above the half kept for interactive calls, which therefore
come first; a flood of them leaves the background its fifth.
"""

from dataclasses import dataclass

HALVED_SECONDS = 60.0
LONGEST_HOLD_SECONDS = 60.0


@dataclass
class Bucket:
    """The state and rules for one process; `rate` is requests per second. Not thread-safe."""

    rate: float
    filled_at: float
    hold_until: float = 0.0
    halved_until: float = 0.0

    def __post_init__(self) -> None:
        self.shared = self.shared_size = max(2.0, self.rate / 2)
        self.ceiling = self.ceiling_size = max(1.0, self.rate / 4)
        self.reserved = self.reserved_size = max(1.0, self.rate / 10)

    def take(self, now: float, background: bool) -> float:
        """Take one request; 0.0 means taken, else seconds after which to ask again."""
        self._fill(now)
        if now < self.hold_until:
            return self.hold_until - now
        if background and self.ceiling < 1:
            return (1 - self.ceiling) / self._ceiling_rate(now)
        if background and self.reserved >= 1:
            self.reserved -= 1
        else:
            needed = 1 + (self.shared_size - 1) / 2 if background else 1
            if self.shared < needed:
                return (needed - self.shared) / self.rate
            self.shared -= 1
        self.ceiling -= 1 if background else 0
        return 0.0

    def look(self, now: float) -> dict[str, float]:
        """What could be taken now, and the seconds of a hold."""
        self._fill(now)
        hold = min(LONGEST_HOLD_SECONDS, max(0.0, self.hold_until - now))
        return {"shared": self.shared, "reserved": self.reserved, "ceiling": self.ceiling, "hold": hold}

    def slow_down(self, now: float, hold_seconds: float) -> None:
        """Stripe said 429: nobody calls for `hold_seconds`, the background gets half for a minute."""
        self.hold_until = max(self.hold_until, now + min(hold_seconds, LONGEST_HOLD_SECONDS))
        self.halved_until = now + HALVED_SECONDS

    def _ceiling_rate(self, now: float) -> float:
        return self.rate / 4 if now < self.halved_until else self.rate / 2

    def _fill(self, now: float) -> None:
        seconds = max(0.0, now - self.filled_at)
        self.filled_at = now
        reserved = self.reserved + seconds * self.rate / 5
        overflow = max(0.0, reserved - self.reserved_size)
        self.reserved = min(reserved, self.reserved_size)
        self.shared = min(self.shared_size, self.shared + seconds * self.rate * 4 / 5 + overflow)
        self.ceiling = min(self.ceiling_size, self.ceiling + seconds * self._ceiling_rate(now))


# The same rules on a hash in Redis, by Redis's clock: the processes' own clocks need not agree. A clock
# that jumps back resets the fill time and shortens a hold, instead of stopping everybody until it is caught up.
TAKE = """
local clock = redis.call('TIME')
local now = clock[1] + clock[2] / 1000000
local rate = tonumber(ARGV[1])
local background = ARGV[2] == '1'
local shared_size = math.max(2, rate / 2)
local reserved_size = math.max(1, rate / 10)
local ceiling_size = math.max(1, rate / 4)
local kept = redis.call('HMGET', KEYS[1], 'filled_at', 'shared', 'reserved', 'ceiling', 'hold_until', 'halved_until')
local filled_at = tonumber(kept[1]) or now
local seconds = math.max(0, now - filled_at)
local hold = (tonumber(kept[5]) or 0) - now
local halved = (tonumber(kept[6]) or 0) - now
local ceiling_rate = rate / 2
if halved > 0 and halved <= 60 then ceiling_rate = rate / 4 end
local reserved = (tonumber(kept[3]) or reserved_size) + seconds * rate / 5
local overflow = math.max(0, reserved - reserved_size)
reserved = math.min(reserved, reserved_size)
local shared = math.min(shared_size, (tonumber(kept[2]) or shared_size) + seconds * rate * 4 / 5 + overflow)
local ceiling = math.min(ceiling_size, (tonumber(kept[4]) or ceiling_size) + seconds * ceiling_rate)
local wait = 0
if hold > 0 and hold <= 60 then
  wait = hold
elseif background and ceiling < 1 then
  wait = (1 - ceiling) / ceiling_rate
elseif background and reserved >= 1 then
  reserved = reserved - 1
  ceiling = ceiling - 1
else
  local needed = 1
  if background then needed = 1 + (shared_size - 1) / 2 end
  if shared < needed then
    wait = (needed - shared) / rate
  else
    shared = shared - 1
    if background then ceiling = ceiling - 1 end
  end
end
redis.call('HSET', KEYS[1], 'filled_at', string.format('%.6f', now), 'shared', string.format('%.6f', shared),
  'reserved', string.format('%.6f', reserved), 'ceiling', string.format('%.6f', ceiling))
redis.call('EXPIRE', KEYS[1], 300)
return string.format('%.6f', wait)
"""

SLOW_DOWN = """
local clock = redis.call('TIME')
local now = clock[1] + clock[2] / 1000000
local hold_until = now + math.min(tonumber(ARGV[1]), 60)
local kept = tonumber(redis.call('HGET', KEYS[1], 'hold_until') or 0)
if kept > hold_until and kept - now <= 60 then hold_until = kept end
redis.call('HSET', KEYS[1], 'hold_until', string.format('%.6f', hold_until),
  'halved_until', string.format('%.6f', now + 60))
redis.call('EXPIRE', KEYS[1], 300)
return 1
"""
