-- Read everything.
--
-- ARGV  none of its own
-- Answer  {now, rows, accounts, table, owners, released jobs with the instant, JSON of external jobs}

enter()
version_in_force()
local past = call('ZRANGEBYSCORE', K.done, '(' .. now - MEMORY, '+inf', 'WITHSCORES')
return leave({
  now, call('HGETALL', K.rows), call('HGETALL', K.accounts), call('HGETALL', K.table),
  call('HGETALL', K.owners), past, call('HGET', K.meta, 'external'),
})
