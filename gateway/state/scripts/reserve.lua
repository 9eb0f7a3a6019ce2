-- Reserve all claims of a call, or none. All keys lie in one hash slot.
-- KEYS[i]   the bucket of claim i: a hash {u, c, t}, or for calls in flight a sorted set of grants
-- ARGV[1]   the grant's id;  ARGV[2] how long it may stay open, ms;  ARGV[3] now in ms, "" for Redis's own clock
-- ARGV[4..] per claim: limit, period in ms (0: calls in flight), amount, "1" where a refusal counts
-- Returns   {1 or 0, per claim: fits (1 or 0), used, carry}
--
-- A bucket has `u` units used, less the carry `c` / period. Time gives back limit / period units per ms in whole
-- numbers: limit = q * period + r, so that elapsed * q and elapsed * r stay below 2^53 (a day has 8.64e7 ms).
local now = tonumber(ARGV[3])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end

local function refilled(key, limit, period)
  local row = redis.call('HMGET', key, 'u', 'c', 't')
  local used, carry, at = tonumber(row[1]) or 0, tonumber(row[2]) or 0, tonumber(row[3]) or now
  local elapsed = now - at
  if elapsed > 0 and used > 0 then
    local periods = math.floor(elapsed / period)
    local rest = elapsed - periods * period
    if periods > 1e6 then periods = 1e6 end
    local quotient = math.floor(limit / period)
    local product = rest * (limit - quotient * period) + carry
    local whole = math.floor(product / period)
    used = used - periods * limit - rest * quotient - whole
    carry = product - whole * period
  end
  if used <= 0 then return 0, 0, math.max(at, now) end
  return used, carry, math.max(at, now)
end

local claims, granted = {}, 1
for i = 1, #KEYS do
  local base = 4 + (i - 1) * 4
  local limit, period = tonumber(ARGV[base]), tonumber(ARGV[base + 1])
  local amount, counts = tonumber(ARGV[base + 2]), ARGV[base + 3] == '1'
  local claim = {limit = limit, period = period, amount = amount}
  if period == 0 then
    redis.call('ZREMRANGEBYSCORE', KEYS[i], '-inf', now)
    claim.used, claim.carry = redis.call('ZCARD', KEYS[i]), 0
  else
    claim.used, claim.carry, claim.at = refilled(KEYS[i], limit, period)
  end
  -- The carry is less than one unit and amounts are whole: it never decides whether a claim fits.
  claim.fits = claim.used + amount <= limit
  if counts and not claim.fits then granted = 0 end
  claims[i] = claim
end

local answer = {granted}
for i = 1, #KEYS do
  local claim = claims[i]
  if granted == 1 and claim.fits then
    if claim.period == 0 then
      redis.call('ZADD', KEYS[i], now + ARGV[2], ARGV[1])
      redis.call('PEXPIRE', KEYS[i], ARGV[2])
      claim.used = claim.used + 1
    else
      claim.used = claim.used + claim.amount
      redis.call('HSET', KEYS[i], 'u', string.format('%.0f', claim.used), 'c', string.format('%.0f', claim.carry),
        't', string.format('%.0f', claim.at))
      local whole = math.ceil(claim.used / claim.limit) * claim.period
      redis.call('PEXPIRE', KEYS[i], math.min(whole, 864000000) + 60000)
    end
  end
  answer[#answer + 1] = claim.fits and 1 or 0
  answer[#answer + 1] = string.format('%.0f', claim.used)
  answer[#answer + 1] = string.format('%.0f', claim.carry)
end
return answer
