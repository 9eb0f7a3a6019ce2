-- A sign of life. KEYS[1] the processes, by when they were last seen.
-- ARGV[1] this process;  ARGV[2] how long one counts that gives no sign, us. Returns {now, processes}.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[2])
redis.call('PEXPIRE', KEYS[1], 3600000)
return {now, redis.call('ZCARD', KEYS[1])}
