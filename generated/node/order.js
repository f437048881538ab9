/**
 * Has grpc-js deliver the messages that came before a server's error, however late they are read. It drops those that
 * wait (grpc/grpc-node#2764), but not when a call ends well: so it is told OK, and the error once all is read.
 * Only channels with this option are concerned. It reaches into grpc-js, whose version is pinned for that reason.
 */
import { Http2SubchannelCall } from "@grpc/grpc-js/build/src/subchannel-call.js";

export const IN_ORDER = "falrpc.status_after_messages";

const { handleTrailers, outputStatus } = Http2SubchannelCall.prototype;
const errors = new WeakMap();

Http2SubchannelCall.prototype.handleTrailers = function (headers) {
  const error = { code: Number(headers["grpc-status"]) };
  if (!error.code || !this.transport.getOptions()[IN_ORDER]) return handleTrailers.call(this, headers);
  errors.set(this, error);
  handleTrailers.call(this, { ...headers, "grpc-status": "0" });
  error.status = this.finalStatus;
};

Http2SubchannelCall.prototype.outputStatus = function () {
  const error = errors.get(this);
  if (error) this.finalStatus = { ...(error.status ?? this.finalStatus), code: error.code };
  outputStatus.call(this);
};
