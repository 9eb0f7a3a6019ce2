-- Settle one grant: correct what was reserved by what was used. bucket.lua stands before this text.
-- KEYS      two per claim: the bucket, its open reservations
-- ARGV[1]   the grant's id
-- ARGV[2..] per claim: "limit per amount kind change": as reserve.lua has them, and what the bucket's use changes by
-- A reservation that is no longer open (settled before, swept, lost with its store) changes nothing: settling
-- twice counts once. Requests keep no open reservation: who settles sends those once.
local now = clock()
for i = 1, #KEYS / 2 do
  local key, open = KEYS[2 * i - 1], KEYS[2 * i]
  local limit, per, amount, unit, change = string.match(ARGV[1 + i], '^(%d+) (%d+) (%d+) (%a)%a (-?%d+)$')
  local bucket = load(key, open, unit == 'c' and 0 or tonumber(limit), tonumber(per), now)
  if unit == 'r' or redis.call('ZREM', open, amount .. ':' .. ARGV[1]) == 1 then
    give_back(bucket, -tonumber(change))
    bucket.changed = true
  end
  if bucket.changed then save(bucket, now) end
end
return 1
