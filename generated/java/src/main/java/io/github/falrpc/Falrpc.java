package io.github.falrpc;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.google.protobuf.ByteString;
import io.github.falrpc.v1.FalServiceGrpc;
import io.github.falrpc.v1.Input;
import io.github.falrpc.v1.Output;
import io.github.falrpc.v1.UploadHeader;
import io.github.falrpc.v1.UploadRequest;
import io.github.falrpc.v1.UploadResponse;
import io.grpc.CallCredentials;
import io.grpc.Channel;
import io.grpc.ClientInterceptor;
import io.grpc.ClientInterceptors;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.netty.shaded.io.grpc.netty.NettyChannelBuilder;
import io.grpc.stub.MetadataUtils;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.util.Map;
import java.util.concurrent.TimeUnit;

/** Connects Java programs to falrpc, and turns values into inputs and outputs into values. */
public final class Falrpc {
  /** The largest message, in bytes. */
  public static final int MESSAGE_BYTES_MAX = 64 << 20;

  private static final int CHUNK_BYTES = 256 << 10;
  private static final ObjectMapper JSON =
      new ObjectMapper().enable(DeserializationFeature.USE_BIG_DECIMAL_FOR_FLOATS);

  private Falrpc() {}

  /**
   * Makes the builder of a channel. Add TLS settings or interceptors of your own, then build it.
   *
   * <p>It speaks TLS unless the target is this machine. Calls are spread over all addresses of the target. Status,
   * StreamStatus, Result and Cancel are repeated on UNAVAILABLE; what costs money never is.
   *
   * @param target {@code host:port}, or {@code dns:///name:port} for a headless service
   */
  public static NettyChannelBuilder channelBuilder(String target) {
    NettyChannelBuilder builder =
        NettyChannelBuilder.forTarget(target)
            .defaultServiceConfig(serviceConfig())
            .enableRetry()
            .keepAliveTime(30, TimeUnit.SECONDS)
            .keepAliveTimeout(10, TimeUnit.SECONDS)
            .keepAliveWithoutCalls(true)
            .maxInboundMessageSize(MESSAGE_BYTES_MAX);
    return isLoopback(target) ? builder.usePlaintext() : builder;
  }

  /** Sends a bearer token with every call of a stub: {@code stub.withCallCredentials(bearer(token))}. */
  public static CallCredentials bearer(String token) {
    return new CallCredentials() {
      @Override
      public void applyRequestMetadata(RequestInfo call, java.util.concurrent.Executor executor, MetadataApplier applier) {
        Metadata metadata = new Metadata();
        metadata.put(Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER), "Bearer " + token);
        applier.apply(metadata);
      }
    };
  }

  /**
   * Turns a value into a model's input, by its JSON form. Numbers keep all their digits.
   *
   * @throws UncheckedIOException the value has no JSON form
   */
  public static Input input(Object value) {
    try {
      return Input.newBuilder().setJson(JSON.writeValueAsString(value)).build();
    } catch (JsonProcessingException e) {
      throw new UncheckedIOException(e);
    }
  }

  /**
   * Reads a model's JSON output. Integers of any size come as they are, into Object as BigInteger when they are large.
   *
   * @throws UncheckedIOException the output is no JSON, or not of this type
   */
  public static <T> T decode(Output output, Class<T> type) {
    if (output.getValueCase() != Output.ValueCase.JSON) {
      throw new UncheckedIOException(
          new IOException("the output is no JSON but " + output.getBinary().getContentType()));
    }
    try {
      return JSON.readValue(output.getJson(), type);
    } catch (JsonProcessingException e) {
      throw new UncheckedIOException(e);
    }
  }
}
