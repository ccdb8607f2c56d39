-- Read the table in force.
--
-- ARGV  none of its own
-- Answer  {age: ms since it was fetched, table: {id, description, id, …}}, or nil

enter()
if version_in_force() == 0 then return leave() end
return leave({age = now - (read_claim('fetch').done_at or now), table = call('HGETALL', K.table)})
