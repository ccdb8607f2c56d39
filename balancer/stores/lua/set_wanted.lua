-- Say what this process waits for; its place in line stays.
--
-- ARGV  6 wants, with their priority
-- Answer  nil

local me = enter()
set_wants(OWNER, me, ARGV[6])
write(K.owners, OWNER, me)
return leave()
