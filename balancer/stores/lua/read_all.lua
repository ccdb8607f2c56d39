-- Read everything.
--
-- ARGV  none of its own
-- Answer  {rows, accounts, table, owners, done: released jobs with the instant, JSON of external jobs}

enter()
version_in_force()
local past = call('ZRANGEBYSCORE', K.done, '(' .. now - MEMORY, '+inf', 'WITHSCORES')
return leave({
  rows = call('HGETALL', K.rows), accounts = call('HGETALL', K.accounts), table = call('HGETALL', K.table),
  owners = call('HGETALL', K.owners), done = past, external = call('HGET', K.meta, 'external') or nil,
})
