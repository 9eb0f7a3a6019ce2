-- Settle one grant: correct what was reserved by what was used, give calls in flight back. Twice counts once.
-- KEYS[1]   the mark that this grant is settled;  KEYS[2..] the buckets
-- ARGV[1]   the grant's id;  ARGV[2] how long the mark is kept, ms
-- ARGV[3..] per bucket: what to add to its use (negative: give back); "x" for calls in flight
if not redis.call('SET', KEYS[1], '1', 'NX', 'PX', ARGV[2]) then return 0 end
for i = 2, #KEYS do
  local change = ARGV[i + 1]
  if change == 'x' then
    redis.call('ZREM', KEYS[i], ARGV[1])
  elseif redis.call('EXISTS', KEYS[i]) == 1 then
    local used = tonumber(redis.call('HGET', KEYS[i], 'u')) + tonumber(change)
    if used < 0 then used = 0 end
    redis.call('HSET', KEYS[i], 'u', string.format('%.0f', used))
  elseif tonumber(change) > 0 then
    -- The bucket was full again and forgotten; what was used beyond the estimate is owed all the same.
    local time = redis.call('TIME')
    redis.call('HSET', KEYS[i], 'u', change, 'c', '0', 't', string.format('%.0f', time[1] * 1000))
    redis.call('PEXPIRE', KEYS[i], 86400000)
  end
end
return 1
