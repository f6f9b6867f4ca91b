-- Keeps an endpoint's deliveries from being leased for a while, or ends that.
--
-- ARGV[7], ARGV[8]  the endpoint, and how long in microseconds, or empty
makes_room()
catch_up()
if ARGV[8] == '' then
  call('HDEL', P .. 'holds', ARGV[7])
else
  call('HSET', P .. 'holds', ARGV[7], text(now + tonumber(ARGV[8])))
end
touch(ARGV[7])
news_deliveries = true
done()
return 1
