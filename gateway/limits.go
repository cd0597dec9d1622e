package gateway

import "time"

const (
	// maxBody bounds a JSON body: the largest honest one, a one-time link with name and password, has under 1 kB.
	maxBody = 16 << 10
	// maxMessage bounds a message on the WebSocket: Resume with maxResume sessions fits.
	maxMessage = 32 << 10
	// maxResume bounds the sessions one client may ask about; a browser runs a handful.
	maxResume = 64
	// maxHeader bounds request headers; browsers send 1-2 kB, a cookie of ours has 43 bytes.
	maxHeader = 32 << 10

	// Timeouts of the HTTP server. No handler streams; admission is the slowest with the master's 10 s.
	readHeaderTimeout = 10 * time.Second
	readTimeout       = 20 * time.Second
	writeTimeout      = 60 * time.Second
	idleTimeout       = 2 * time.Minute

	// shutdownTimeout is how long running requests may take at the end, below Nomad's default kill_timeout of 5 s.
	shutdownTimeout = 4 * time.Second

	// socketQueue is how many messages wait for a slow browser. When it is full the socket is closed: the client reconnects and
	// resumes, and misses nothing that the store or the master knows.
	socketQueue = 64
	// socketRequests is how many requests of one socket are worked on at once; beyond it they are refused as rate_limited.
	socketRequests = 4
	// socketRate and socketBurst bound messages of one socket; an honest client sends a few per minute.
	socketRate  = 5
	socketBurst = 30
	// socketsPerUser bounds the tabs of one person.
	socketsPerUser = 32
	// socketsInAll bounds memory: some 30 kB each.
	socketsInAll = 20_000
	// pingEvery keeps the connection alive through proxies and notices dead ones; pingTimeout ends them.
	pingEvery   = 20 * time.Second
	pingTimeout = 10 * time.Second
	// writeTimeoutSocket ends the socket of a client that takes nothing; closeTimeout bounds the farewell.
	writeTimeoutSocket = 10 * time.Second
	closeTimeout       = time.Second
	// recheckEvery is how often each socket looks at its login and all sessions at their rights though nothing is known to have changed:
	// for what ends by time alone.
	recheckEvery = 15 * time.Second
	// rightsEvery is how soon a gateway sees that a right was taken, wherever it was: with the way to the host well below two seconds.
	// One number is read from the store for it.
	rightsEvery = 250 * time.Millisecond
	// rightsAgain is how often it looks after a change: a transaction that began earlier may be committed later.
	rightsAgain = 2
	// requestTimeout bounds one signaling request; the master takes up to 10 s and may change its leader meanwhile.
	requestTimeout = 25 * time.Second

	// endedQueue is how many ends of sessions wait for the store; when it is full they are left to reconcile.
	endedQueue = 4096
	// reconcileEvery compares the store's running sessions with the master's, for ends that nobody saw.
	reconcileEvery = 5 * time.Minute
	// sweepEvery removes what is past its time.
	sweepEvery = time.Hour
	// probeEvery asks whether the master answers, for /readyz and metrics.
	probeEvery   = 5 * time.Second
	probeTimeout = 3 * time.Second
	// hostsFresh is how long the list of hosts is shared by all who look at desktops.
	hostsFresh = time.Second
	// bansFresh is how late a ban of an address that another gateway was told comes into force here.
	bansFresh = 5 * time.Second

	// clockSkew is how far the clocks of gateway and database may be apart unsaid; a TOTP step has 30 s.
	clockSkew = 10 * time.Second

	// seenEvery is how precisely a login's last use is stored.
	seenEvery = 5 * time.Minute

	// Sign-in limits per address (IPv6: per /64, twice that per /56, four times per /48): a family or an office behind one address signs
	// in, a guesser is slow.
	addressBurst = 20
	addressEvery = 3 * time.Second
	// Sign-in limits per name, whether there is such an account or not: some 30 guesses in the first hour and 480 a day, from all the
	// world together. Whoever uses them up keeps out browsers that have never signed in with the name; others have their own.
	nameBurst = 10
	nameEvery = 3 * time.Minute
	// Limits of a browser that has signed in with the name before, of one that is signed in, and of a link with a second factor.
	ownBurst = 10
	ownEvery = time.Minute
	// deviceLifetime is how long a browser is known after it has signed in: browsers keep no cookie longer.
	deviceLifetime = 400 * 24 * time.Hour
	// limitedKeys bounds the memory of each limiter; when full, keys that have recovered make room, then arbitrary ones.
	limitedKeys = 50_000

	// firstAdminLifetime is how long the first admin's link works at most: it is in a log or on a screen, and whoever reads it there owns
	// the fleet.
	firstAdminLifetime = time.Hour
	// freshSignIn is how old a sign-in may be that stands for a password where the account has none.
	freshSignIn = 5 * time.Minute

	// maxName is in bytes.
	maxName = 64
	// maxReason bounds what operators write, as the master does.
	maxReason = 200
	// maxAgent bounds the stored User-Agent.
	maxAgent = 200
)
