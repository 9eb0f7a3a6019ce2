-- Reserve all claims of a call, or none. bucket.lua stands before this text.
-- KEYS      two per claim, all in one hash slot: the bucket, its open reservations
-- ARGV[1]   the grant's id;  ARGV[2] how long it may stay open, us
-- ARGV[3]   the moment (us) after which nobody waits for the answer any more; 0: always welcome
-- ARGV[4..] per claim: limit, per in us (0: calls in flight), amount, "e" (enforce) or "s" (shadow), and "h" where
--           the reservation stays open until it is settled, else "-"
-- Returns   {granted, now, per claim: fits, used, carry}; granted is 1, 0, or -1 for a call that came too late
local now = clock()
local id, hold, deadline = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
if deadline > 0 and now > deadline then return {-1, now} end

local buckets, claims, granted = {}, {}, 1
for i = 1, #KEYS / 2 do
  local key, base = KEYS[2 * i - 1], 5 * i - 1
  local limit, amount = tonumber(ARGV[base]), tonumber(ARGV[base + 2])
  local bucket = buckets[key]
  if not bucket then
    bucket = load(key, KEYS[2 * i], limit, tonumber(ARGV[base + 1]), now)
    buckets[key] = bucket
  end
  -- The carry is less than one unit and amounts are whole: it never decides whether a claim fits.
  local fits = bucket.used + amount <= limit
  if fits then
    bucket.used = bucket.used + amount
  elseif ARGV[base + 3] == 'e' then
    granted = 0
  end
  claims[i] = {bucket, fits, amount, base}
end

local answer = {granted, now}
for i, claim in ipairs(claims) do
  local bucket, fits, amount, base = unpack(claim)
  if fits and granted == 0 then
    bucket.used = bucket.used - amount
  elseif fits then
    bucket.changed = true
    if ARGV[base + 4] == 'h' then hold_open(bucket, ARGV[base + 2] .. ':' .. id, now, hold) end
  end
  answer[3 * i] = fits and 1 or 0
end
for i, claim in ipairs(claims) do
  local bucket = claim[1]
  if bucket.changed then save(bucket, now) end
  answer[3 * i + 1], answer[3 * i + 2] = bucket.used, bucket.carry
end
return answer
