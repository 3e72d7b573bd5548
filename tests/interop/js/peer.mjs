// A small Glueberry peer over js-libp2p. It greets, echoes what it gets on `chat`, and follows one
// habit of Go nodes if told to. One JSON object per line goes out: what happened.
//
//   node peer.mjs --transport tcp|quic --profile v1|v1-go [--habit NAME] [--dial ADDRESS]

import { parseArgs } from 'node:util'
import { noise } from '@chainsafe/libp2p-noise'
import { quic } from '@chainsafe/libp2p-quic'
import { yamux } from '@chainsafe/libp2p-yamux'
import { generateKeyPairFromSeed } from '@libp2p/crypto/keys'
import { identify } from '@libp2p/identify'
import { ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'
import { Frames, open, profiles, seal, sharedKey, streamId, write } from './glueberry.mjs'

const HELLO = 1
const PUB_KEY = 2
const COMPLETE = 3
const CHAT = 'chat'

const { values: args } = parseArgs({
  options: {
    transport: { type: 'string', default: 'tcp' },
    profile: { type: 'string', default: 'v1' },
    habit: { type: 'string', default: 'none' },
    dial: { type: 'string' }
  }
})
const habit = args.habit
const profile = profiles[args.profile]
const tell = what => process.stdout.write(JSON.stringify(what) + '\n')
const pause = millis => new Promise(resolve => setTimeout(resolve, millis))

const seed = crypto.getRandomValues(new Uint8Array(32))
const privateKey = await generateKeyPairFromSeed('Ed25519', seed)

// One session, as an application that is told of by callbacks would hold it.
class Session {
  constructor (connection) {
    this.connection = connection
    this.peerKey = connection.remotePeer.publicKey.raw
    this.heard = new Set()
    this.said = new Set()
    this.isPrepared = false
    this.isEstablished = false
    this.waiting = []
    this.turn = Promise.resolve()
  }

  // ---- the handshake

  useHandshake (stream) {
    this.handshake = stream
    // eslint-disable-next-line no-new
    new Frames(stream, profile, message => {
      // One after the other: the answer to one may take its time.
      this.turn = this.turn.then(() => this.onHandshake(message))
    })
  }

  async openHandshake () {
    if (this.handshake === undefined) {
      this.useHandshake(await this.connection.newStream(profile.handshake))
    }
  }

  async say (kind, rest = new Uint8Array()) {
    if (this.said.has(kind)) return
    this.said.add(kind)
    await this.openHandshake()
    await write(this.handshake, profile.encode(Uint8Array.from([kind, ...rest])))
  }

  async onHandshake (message) {
    const kind = message[0]
    this.heard.add(kind)
    if (kind === HELLO) {
      await this.say(HELLO)
      await this.say(PUB_KEY, privateKey.publicKey.raw)
    } else if (kind === PUB_KEY) {
      if (Buffer.compare(message.subarray(1), this.peerKey) !== 0) throw new Error('wrong key')
      this.prepare()
      if (habit === 'data-before-complete') {
        await this.send(new TextEncoder().encode('early'))
        await pause(300)
      }
      if (habit === 'late-complete') await pause(500)
      await this.say(COMPLETE)
      this.finalizeIfDone()
    } else if (kind === COMPLETE) {
      this.finalizeIfDone()
    }
  }

  prepare () {
    this.key = sharedKey(seed, this.peerKey)
    this.isPrepared = true
    for (const stream of this.waiting.splice(0)) this.useChat(stream)
  }

  finalizeIfDone () {
    if (this.isEstablished || !this.heard.has(COMPLETE) || !this.said.has(COMPLETE)) return
    this.isEstablished = true
    if (habit !== 'never-closes') this.handshake.close()
    tell({ event: 'established' })
    if (args.dial !== undefined && habit === 'none') this.send(new TextEncoder().encode('first'))
  }

  // ---- the named stream

  onChat (stream) {
    if (habit === 'resets-second' && !this.hasReset) {
      // As a Go node does: the peer's substream is the second, whatever is in it. Its reset goes out
      // before this side writes on its own, and so names it.
      this.hasReset = true
      stream.abort(new Error('there is one already'))
      tell({ event: 'reset' })
      pause(1).then(() => this.send(new TextEncoder().encode('mine')))
    } else if (this.isPrepared) {
      this.useChat(stream)
    } else {
      this.waiting.push(stream)
    }
  }

  useChat (stream) {
    this.chat ??= stream
    let turn = Promise.resolve()
    // eslint-disable-next-line no-new
    new Frames(stream, profile, record => {
      const message = open(this.key, record)
      tell({ event: 'message', bytes: message.length })
      turn = turn.then(() => this.send(message))
    })
  }

  async send (message) {
    if (this.chat === undefined) this.useChat(await this.connection.newStream(streamId(CHAT)))
    await write(this.chat, profile.encode(seal(this.key, message)))
  }
}

const sessions = new Map()
const sessionOf = connection => {
  if (!sessions.has(connection.id)) sessions.set(connection.id, new Session(connection))
  return sessions.get(connection.id)
}

const isQuic = args.transport === 'quic'
const node = await createLibp2p({
  privateKey,
  addresses: { listen: [isQuic ? '/ip4/127.0.0.1/udp/0/quic-v1' : '/ip4/127.0.0.1/tcp/0'] },
  transports: [isQuic ? quic() : tcp()],
  connectionEncrypters: [noise()],
  streamMuxers: [yamux()],
  services: { identify: identify(), ping: ping() },
  connectionMonitor: { enabled: false }
})
await node.handle(profile.handshake, (stream, connection) => sessionOf(connection).useHandshake(stream))
await node.handle(streamId(CHAT), (stream, connection) => sessionOf(connection).onChat(stream))
node.addEventListener('connection:close', () => tell({ event: 'closed' }))
tell({ event: 'listening', address: node.getMultiaddrs()[0].toString(), id: node.peerId.toString() })
process.stdin.resume()
process.stdin.on('end', () => process.exit(0))

if (args.dial !== undefined) {
  const session = sessionOf(await node.dial(multiaddr(args.dial)))
  if (habit === 'late-handshake') await pause(700)
  if (habit === 'no-handshake') {
    session.prepare()
    await session.send(new TextEncoder().encode('unannounced'))
    tell({ event: 'sent without a handshake' })
  } else {
    await session.say(HELLO)
  }
}
