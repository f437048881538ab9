/**
 * Mends two things in grpc-js, for channels with this option only; its version is pinned for that reason.
 *
 * It drops the messages that came before a server's error and wait to be read (grpc/grpc-node#2764), but not when a
 * call ends well: so it is told OK, and the error once all is read.
 *
 * It gives calls up by a close that Node.js begins with an end: a server may take what came until then for all. So the
 * stream of a call that the server has not ended can't be ended any more, only reset.
 */
import { Http2SubchannelCall } from "@grpc/grpc-js/build/src/subchannel-call.js";

export const MENDED = "falrpc.mended";

const { destroyHttp2Stream, handleTrailers, outputStatus } = Http2SubchannelCall.prototype;
const errors = new WeakMap();

Http2SubchannelCall.prototype.handleTrailers = function (headers) {
  const error = { code: Number(headers["grpc-status"]) };
  if (!error.code || !this.transport.getOptions()[MENDED]) return handleTrailers.call(this, headers);
  errors.set(this, error);
  handleTrailers.call(this, { ...headers, "grpc-status": "0" });
  error.status = this.finalStatus;
};

Http2SubchannelCall.prototype.outputStatus = function () {
  const error = errors.get(this);
  if (error) this.finalStatus = { ...(error.status ?? this.finalStatus), code: error.code };
  outputStatus.call(this);
};

Http2SubchannelCall.prototype.destroyHttp2Stream = function () {
  const stream = this.http2Stream;
  if (this.transport.getOptions()[MENDED] && !this.serverEndedCall) stream.end = () => stream;
  destroyHttp2Stream.call(this);
};
