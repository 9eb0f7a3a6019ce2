-- Reserve all claims of a call, or none. bucket.lua stands before this text.
-- KEYS      two per claim, all in one hash slot: the bucket, its open reservations
-- ARGV[1]   the grant's id;  ARGV[2] how long it may stay open, us
-- ARGV[3]   the moment (us) after which nobody waits for the answer any more; 0: always welcome
-- ARGV[4..] per claim: "limit per amount kind", per in us, kind of three letters: r(equests), t(okens) or
--           c(oncurrent), then e(nforce) or s(hadow)
-- Returns   {granted, now, per claim: fits, used, carry}; granted is 1, 0, or -1 for a call that came too late
local now = clock()
local id, hold, deadline = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
if deadline > 0 and now > deadline then return {-1, now} end

local buckets, claims, granted = {}, {}, 1
for i = 1, #KEYS / 2 do
  local key, open = KEYS[2 * i - 1], KEYS[2 * i]
  local limit, per, amount, unit, mode = string.match(ARGV[3 + i], '^(%d+) (%d+) (%d+) (%a)(%a)$')
  limit, per, amount = tonumber(limit), tonumber(per), tonumber(amount)
  local bucket = buckets[key]
  if not bucket then
    bucket = load(key, open, unit == 'c' and 0 or limit, per, now)
    buckets[key] = bucket
  end
  -- The carry is less than one unit and amounts are whole: it never decides whether a claim fits.
  local claim = {bucket = bucket, amount = amount, unit = unit, fits = bucket.used + amount <= limit}
  claim.member = string.format('%.0f:%s', amount, id)
  if claim.fits then
    bucket.used = bucket.used + amount
  elseif mode == 'e' then
    granted = 0
  end
  claims[i] = claim
end

local answer = {granted, now}
for _, claim in ipairs(claims) do
  local bucket = claim.bucket
  if claim.fits and granted == 0 then
    bucket.used = bucket.used - claim.amount
  elseif claim.fits then
    bucket.changed = true
    if claim.unit ~= 'r' then
      redis.call('ZADD', bucket.open, now + hold, claim.member)
      bucket.next, bucket.last = math.min(bucket.next, now + hold), math.max(bucket.last, now + hold)
      redis.call('PEXPIRE', bucket.open, string.format('%.0f', (bucket.last - now) / 1000 + 1000))
    end
  end
end
for _, claim in ipairs(claims) do
  local bucket = claim.bucket
  if bucket.changed then
    save(bucket, now)
    bucket.changed = false
  end
  answer[#answer + 1] = claim.fits and 1 or 0
  answer[#answer + 1] = bucket.used
  answer[#answer + 1] = bucket.carry
end
return answer
