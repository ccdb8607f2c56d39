-- Say what this process waits for; its place in line stays.
--
-- ARGV  6 wants   7 priority
-- Answer  nil

local me = enter()
set_wants(OWNER, me, ARGV[6], ARGV[7])
write(K.owners, OWNER, me)
return leave()
