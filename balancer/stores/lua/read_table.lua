-- Read the table in force.
--
-- ARGV  none of its own
-- Answer  {ms since it was fetched, id, description, id, …}, or nil

enter()
if version_in_force() == 0 then return leave() end
local accounts = call('HGETALL', K.table)
table.insert(accounts, 1, now - (read_claim('fetch').done_at or now))
return leave(accounts)
