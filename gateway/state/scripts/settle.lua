-- Settle one grant: correct what was reserved by what was used. bucket.lua stands before this text.
-- KEYS      two per claim: the bucket, its open reservations
-- ARGV[1]   the grant's id
-- ARGV[2..] per claim: limit, per in us (0: calls in flight), amount, what to add to the bucket's use, and "h" where
--           the reservation was held open, else "-"
-- A reservation that is no longer open (settled before, swept, lost with its store) changes nothing: settling
-- twice counts once. Those that were never held open are to be said once.
local now = clock()
for i = 1, #KEYS / 2 do
  local open, base = KEYS[2 * i], 5 * i - 3
  local bucket = load(KEYS[2 * i - 1], open, tonumber(ARGV[base]), tonumber(ARGV[base + 1]), now)
  if ARGV[base + 4] ~= 'h' or redis.call('ZREM', open, ARGV[base + 2] .. ':' .. ARGV[1]) == 1 then
    give_back(bucket, -tonumber(ARGV[base + 3]))
    bucket.changed = true
  end
  if bucket.changed then save(bucket, now) end
end
return 1
