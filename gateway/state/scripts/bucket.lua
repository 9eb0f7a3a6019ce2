-- One bucket, as reserve.lua and settle.lua see it; this text stands in front of both.
--
-- A bucket is what is used of it: `used` whole units, less `carry` / per of one. Time takes `rate` units away per
-- `per` microseconds, never below nothing; calls in flight have rate 0. Beside it lies the sorted set of its open
-- reservations ("amount:grant", by the moment they expire): what a dead process reserved comes back by itself.
-- Kept as five doubles: used, carry, at; `next`, before which no reservation expires; `last`, after which none does.
local NEVER = 2 ^ 52

local function clock()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end

-- (elapsed * rate + carry) / per in whole units, and the new carry, exactly. Where the product passes 2^53,
-- `elapsed` is taken in digits of 15 bits: no step reaches 2^53 then while per < 2^37 (38 hours).
local function come_back(elapsed, rate, per, carry)
  local product = elapsed * rate + carry
  if product < 2 ^ 53 then
    local rest = math.fmod(product, per)
    return (product - rest) / per, rest
  end
  local part = math.fmod(rate, per)
  local units, rest = 0, 0
  for digit = 2, 0, -1 do
    product = rest * 32768 + math.floor(elapsed / 32768 ^ digit) % 32768 * part + (digit == 0 and carry or 0)
    rest = math.fmod(product, per)
    units = units * 32768 + (product - rest) / per
  end
  return elapsed * ((rate - part) / per) + units, rest
end

local function give_back(bucket, amount)
  bucket.used = math.max(0, bucket.used - amount)
  if bucket.used == 0 then bucket.carry = 0 end
end

local function sweep(bucket, now)
  local expired = redis.call('ZRANGEBYSCORE', bucket.open, '-inf', now, 'LIMIT', 0, 1000)
  for _, member in ipairs(expired) do
    give_back(bucket, tonumber(string.match(member, '^%d+')))
  end
  if #expired > 0 then redis.call('ZREM', bucket.open, unpack(expired)) end
  local first = redis.call('ZRANGE', bucket.open, 0, 0, 'WITHSCORES')
  bucket.next, bucket.changed = tonumber(first[2]) or NEVER, true
end

local function load(key, open, limit, per, now)
  local rate = limit
  if per == 0 then rate, per = 0, 1 end
  local bucket = {key = key, open = open, rate = rate, per = per, used = 0, carry = 0, next = NEVER, last = 0}
  local kept = redis.call('GET', key)
  if kept then
    local used, carry, at, next, last = struct.unpack('>ddddd', kept)
    bucket.used, bucket.next, bucket.last = used, next, last
    if rate > 0 and used > 0 then
      local elapsed = math.min(math.max(now - at, 0), 2 ^ 45 - 1)
      if carry >= per then carry = 0 end -- counted under another period
      if now < at then bucket.changed = true end -- the clock was set back: time counts from now on
      local units
      units, bucket.carry = come_back(elapsed, rate, per, carry)
      give_back(bucket, units)
    end
    if now >= next then sweep(bucket, now) end
  elseif rate == 0 then
    sweep(bucket, now)
    bucket.last = tonumber(redis.call('ZRANGE', open, -1, -1, 'WITHSCORES')[2]) or 0
  elseif redis.call('EXISTS', open) == 1 then -- asked first: after a DEL Redis takes everything, full or not
    redis.call('DEL', open) -- of a bucket that is no more: nothing of it may come back to this one
  end
  -- Calls in flight are those that are open, though one of the two keys was evicted without the other.
  if rate == 0 then bucket.used = redis.call('ZCARD', open) end
  return bucket
end

-- Sets of open reservations outlive their last one; what they may outlive it by saves most calls of PEXPIRE. A set
-- that was empty was no set, and has to be told anew.
local function hold_open(bucket, member, now, hold)
  redis.call('ZADD', bucket.open, now + hold, member)
  bucket.next = math.min(bucket.next, now + hold)
  local told = bucket.last >= now + hold
  if not told then bucket.last = now + hold + math.ceil(hold / 4) end
  if not told or redis.call('ZCARD', bucket.open) == 1 then
    redis.call('PEXPIRE', bucket.open, math.ceil((bucket.last - now) / 1000) + 1000)
  end
end

-- An idle bucket is forgotten once it is full again and nothing of it is open.
local function save(bucket, now)
  local full = bucket.rate > 0 and bucket.used * bucket.per / bucket.rate or 0
  local left = math.max(full, bucket.last - now)
  if left <= 0 then return redis.call('DEL', bucket.key) end
  local kept = struct.pack('>ddddd', bucket.used, bucket.carry, now, bucket.next, bucket.last)
  redis.call('SET', bucket.key, kept, 'PX', math.min(math.ceil(left / 1000), 1e13) + 1000)
end
