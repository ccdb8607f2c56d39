-- Read everything.
--
-- ARGV  none of its own
-- Answer  {now, rows, accounts, table, owners, released jobs with the instant, JSON of external jobs}

enter()
version_in_force()
local past = call('ZRANGEBYSCORE', DONE, '(' .. now - MEMORY, '+inf', 'WITHSCORES')
return leave({
  now, call('HGETALL', ROWS), call('HGETALL', ACCOUNTS), call('HGETALL', TABLE),
  call('HGETALL', OWNERS), past, call('HGET', META, 'external'),
})
